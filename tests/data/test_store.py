"""Drawings as Parquet: data is read as written, pixels of other alphabets are not read, every flaw is named."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tables import FIXED, ROWS, rewritten, row, written
from users import plain_user

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import store
from oneshot.data.drawings import FixedTrials, Row
from oneshot.data.png import decode
from oneshot.data.store import DRAWINGS, TRIALS

# --- data is read as it was written


def test_drawings_come_back_bit_by_bit_in_the_order_of_the_alphabets(tmp_path: Path) -> None:
    drawings = store.load(written(tmp_path))
    assert drawings.alphabets == ("Zeta", "Alpha", "Mu")
    assert drawings.characters[:3] == ("Zeta/character01", "Zeta/character02", "Alpha/character01")
    assert len(drawings) == 12 and drawings.row.tolist() == list(range(12))
    assert drawings.drawer.tolist() == [1, 3] * 6 and drawings.alphabet.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    expected = sorted(ROWS, key=lambda one: (("Zeta", "Alpha", "Mu").index(one.alphabet), one.character, one.drawer))
    assert np.array_equal(drawings.pixels(), np.stack([one.ink for one in expected]))
    assert drawings.packed.shape == (12, 8), "63 pixels are 8 bytes"


def test_greys_are_kept_where_a_pixel_has_eight_bits(tmp_path: Path) -> None:
    rows = [row("Alpha", 1, drawer, grey=True) for drawer in (1, 2)]
    drawings = store.load(written(tmp_path, rows, bits=8))
    assert np.array_equal(drawings.pixels(), np.stack([one.ink for one in rows]))
    assert np.array_equal(drawings.pixels([1]), rows[1].ink[None])


def test_any_choice_of_positions_can_be_unpacked(small_glyphs: Folder) -> None:
    drawings = store.load(small_glyphs)
    every = drawings.pixels()
    assert every.dtype == np.uint8 and set(np.unique(every)) == {0, 255}
    for chosen in (np.array([5, 3, 3]), [7], slice(4, 9), np.array([], dtype=np.int64)):
        assert np.array_equal(drawings.pixels(chosen), every[chosen])


def test_the_picture_and_the_pixels_of_a_row_are_one_drawing(small_glyphs: Folder) -> None:
    table = pq.read_table(small_glyphs.file(DRAWINGS)).to_pylist()
    drawings = store.load(small_glyphs)
    for position in range(0, len(table), 97):
        ink = decode(table[position]["image"]["bytes"], where="row")
        assert np.array_equal(ink, drawings.pixels([position])[0])
        name = f"{table[position]['alphabet']}/{table[position]['character']}"
        assert drawings.characters[drawings.character[position]] == name
        assert table[position]["image"]["path"] == f"{name}/{drawings.drawer[position]:02d}.png"


def test_other_programs_know_the_pictures_for_pictures(small_glyphs: Folder) -> None:
    schema = pq.read_schema(small_glyphs.file(DRAWINGS))
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": {"image": {"_type": "Image"}}}}
    text = pa.dictionary(pa.int32(), pa.string())
    columns = {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "pixels": pa.binary(1379)}  # 105² bits
    columns |= {"alphabet": text, "character": text, "drawer": pa.int8(), "origin": text}
    assert schema.remove_metadata().equals(pa.schema(columns))
    first = pq.read_table(small_glyphs.file(DRAWINGS), columns=["image"])["image"][0].as_py()
    assert Image.open(io.BytesIO(first["bytes"])).size == (105, 105)


def test_a_description_needs_no_pixel(tmp_path: Path) -> None:
    about = store.describe(written(tmp_path, trial_alphabets=["Zeta"]))
    assert (about.name, about.source, about.digests) == ("noise", "dice", {"a": "1"})
    assert (about.height, about.width, about.bits, about.rows) == (9, 7, 1, 12)
    assert about.alphabets == ("Zeta", "Alpha", "Mu") and about.trial_alphabets == ("Zeta",)
    assert about.characters["Mu"] == ("character01", "character02") and about.drawings["Mu"] == 4
    assert about.drawers["Mu"] == (1, 3)
    assert about.origin == {"Zeta": "evaluation", "Alpha": "background", "Mu": "evaluation"}


def test_some_drawings_keep_what_they_are(small_glyphs: Folder) -> None:
    every = store.load(small_glyphs)
    keep = np.random.default_rng(0).random(len(every)) < 0.02
    some, positions = every.where(keep), np.flatnonzero(keep)
    assert np.array_equal(some.pixels(), every.pixels(positions)) and np.array_equal(some.row, positions)
    assert [some.characters[c] for c in some.character] == [every.characters[c] for c in every.character[positions]]
    assert [some.alphabets[a] for a in some.alphabet] == [every.alphabets[a] for a in every.alphabet[positions]]
    assert len(some.characters) == len(set(some.character)) < len(every.characters)


# --- only the pixels that were asked for are read


def test_all_but_the_pixels_can_be_had(small_glyphs: Folder) -> None:
    every, some = store.load(small_glyphs), store.load(small_glyphs, pixels=False)
    assert some.packed.shape == (len(every), 0)
    assert np.array_equal(some.character, every.character) and np.array_equal(some.drawer, every.drawer)


def test_some_alphabets_are_those_rows_of_the_whole(small_glyphs: Folder) -> None:
    every = store.load(small_glyphs)
    chosen = (every.alphabets[5], every.alphabets[1])
    some = store.load(small_glyphs, alphabets=chosen)
    assert some.alphabets == (every.alphabets[1], every.alphabets[5]), "in the order of the file"
    assert np.array_equal(some.pixels(), every.pixels(some.row))
    assert np.array_equal(np.unique(every.alphabet[some.row]), [1, 5])


def test_training_alphabets_load_though_every_other_alphabets_bytes_are_destroyed(
    small_glyphs: Folder, tmp_path: Path
) -> None:
    about, whole = store.describe(small_glyphs), bytearray(small_glyphs.read(DRAWINGS))
    footer = pq.ParquetFile(io.BytesIO(whole)).metadata
    trained = [name for name in about.alphabets if about.origin[name] == "background"]
    expected = store.load(small_glyphs, alphabets=trained)
    for index, name in enumerate(about.alphabets):
        for column in (footer.row_group(index).column(at) for at in range(footer.num_columns)):
            picture = column.path_in_schema.startswith("image")
            if name not in trained or picture:  # `image` is never read, not even for the training alphabets
                start = column.dictionary_page_offset or column.data_page_offset
                whole[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    damaged = Folder.of(tmp_path)
    damaged.write(DRAWINGS, bytes(whole))
    assert np.array_equal(store.load(damaged, alphabets=trained).packed, expected.packed)
    with pytest.raises(UserError, match=r"drawings\.parquet is damaged"):
        store.load(damaged)


def test_the_footer_holds_no_drawing(small_glyphs: Folder) -> None:
    footer = pq.ParquetFile(small_glyphs.file(DRAWINGS)).metadata
    for group in range(footer.num_row_groups):
        for column in (footer.row_group(group).column(at) for at in range(footer.num_columns)):
            if column.path_in_schema.startswith(("pixels", "image")):
                assert not column.is_stats_set


# --- every flaw is named


def test_an_unknown_alphabet_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no alphabet 'Alfa': did you mean 'Alpha'\?"):
        store.load(written(tmp_path), alphabets=["Alfa"])
    with pytest.raises(UserError, match=r"no alphabet of .* was asked for"):
        store.load(Folder.of(tmp_path), alphabets=[])


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"drawings\.parquet does not exist; make it with `python -m oneshot\.data`"):
        store.describe(Folder.of(tmp_path))
    with pytest.raises(UserError, match=r"trials\.parquet does not exist"):
        store.load_trials(written(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: b"XXXX" + whole[4:-4] + b"XXXX",
        lambda whole: b"<html>not found</html>",
        lambda whole: whole[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        lambda whole: whole[:4] + bytes(len(whole) - 300) + whole[-296:],
    ],
    ids=["empty", "half", "a byte short", "wrong magic", "a web page", "absurd footer", "zeros"],
)
def test_a_damaged_file_is_named(small_glyphs: Folder, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = Folder.of(tmp_path)
    folder.write(DRAWINGS, damage(small_glyphs.read(DRAWINGS)))
    for read in (store.describe, store.load):
        with pytest.raises(UserError, match=rf"{tmp_path}/drawings\.parquet is damaged or not a Parquet file"):
            read(folder)


@pytest.mark.parametrize("column", ["pixels", "alphabet", "character", "drawer", "origin", "image"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda table: table.drop_columns([column]))
    with pytest.raises(UserError, match=rf"drawings\.parquet has no column '{column}'"):
        store.load(folder)


def test_another_format_version_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, format=3)
    with pytest.raises(UserError, match="has format version 3, and this program reads versions 1 and 2"):
        store.describe(folder)


@pytest.mark.parametrize(
    ("facts", "flaw"),
    [
        ({"bits": 3}, "bits = 3: must be 1 or 8"),
        ({"height": 10**12}, "height = 1000000000000: must be less than"),
        ({"source": 5}, "source = 5: must be a valid string"),
        ({"alphabets": 5}, "alphabets = 5: must be a valid list"),
        ({"alphabets": [{}]}, r"'alphabets\.0\.name' is missing"),
        (
            {"alphabets": 2 * [{"name": "A", "origin": "background", "drawings": 1, "characters": [], "drawers": []}]},
            "twice",
        ),
    ],
)
def test_a_footer_that_says_what_cannot_be_is_named(tmp_path: Path, facts: dict[str, object], flaw: str) -> None:
    folder = written(tmp_path)
    rewritten(folder, **facts)
    with pytest.raises(UserError, match=rf"drawings\.parquet has an invalid description of its content \(.*{flaw}"):
        store.describe(folder)


def test_pixels_of_another_length_than_the_drawings_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, height=10)  # this needs 9 bytes per drawing; the file has 8
    with pytest.raises(UserError, match=r"'pixels' of type fixed_size_binary\[8\], not fixed_size_binary\[9\]"):
        store.load(folder)


def test_a_parquet_file_of_something_else_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / DRAWINGS)
    with pytest.raises(UserError, match="of something else, not of drawings"):
        store.load(Folder.of(tmp_path))


def test_a_file_without_drawings_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda table: table.slice(0, 0))
    with pytest.raises(UserError, match="holds no drawings"):
        store.load(folder)
    with pytest.raises(UserError, match="there are no drawings to put into it"):
        written(tmp_path, [])


def test_columns_that_contradict_the_footer_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda table: table.slice(0, 8))
    with pytest.raises(UserError, match="does not have one row group for each"):
        store.load(folder)
    folder = written(tmp_path)
    other = pa.array(["Omega"] * 12, pa.dictionary(pa.int32(), pa.string()))
    rewritten(folder, lambda table: table.set_column(2, table.schema.field("alphabet"), other))
    with pytest.raises(UserError, match="holds a drawing of Omega/character01, which its description does not list"):
        store.load(folder)
    folder = written(tmp_path)
    empty = pa.array([None] * 12, pa.int8())
    rewritten(folder, lambda table: table.set_column(4, table.schema.field("drawer"), empty))
    with pytest.raises(UserError, match="has missing values"):
        store.load(folder)


@pytest.mark.parametrize(
    ("rows", "flaw"),
    [
        ([*ROWS, row("Zeta", 9, 1)], "do not come one after the other"),
        ([*ROWS, row("Nu", 1, 1, size=(9, 8))], "another size than 9 x 7"),
        ([*ROWS, row("Mu", 1, 1)], "two drawings of one character by one drawer"),
    ],
)
def test_rows_that_do_not_fit_together_are_not_written(tmp_path: Path, rows: list[Row], flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw):
        written(tmp_path, rows)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=f"cannot make the folder {tmp_path}/file: File exists; name one that can"):
        written(tmp_path / "file")


def test_a_folder_that_may_not_be_written_is_named_with_what_to_do() -> None:
    with TemporaryDirectory() as place:  # other users cannot look into pytest's own temporary folders
        os.chmod(place, 0o555)
        said = rf"cannot write {place}/drawings\.parquet .*choose another data root with --data"
        with plain_user(), pytest.raises(UserError, match=said):
            written(Path(place))
        assert os.listdir(place) == []
        os.chmod(place, 0o755)


# --- fixed trials


def test_fixed_trials_come_back_as_they_were(tmp_path: Path) -> None:
    folder = written(tmp_path)
    store.write_trials(folder, FIXED)
    again = store.load_trials(folder)
    for name in ("run", "query", "support", "target"):
        assert np.array_equal(getattr(again, name), getattr(FIXED, name)) and getattr(again, name).dtype == np.int64


@pytest.mark.parametrize("change", [{"query": [0, 12]}, {"support": [[1, -1], [5, 1]]}, {"target": [0, 2]}])
def test_trials_that_point_nowhere_are_named(tmp_path: Path, change: dict[str, list]) -> None:
    folder = written(tmp_path)
    fields = {name: np.array(change.get(name, getattr(FIXED, name))) for name in ("run", "query", "support", "target")}
    store.write_trials(folder, FixedTrials(**fields))
    with pytest.raises(UserError, match=r"trials\.parquet points at drawings that drawings\.parquet does not hold"):
        store.load_trials(folder)


def test_damaged_and_foreign_trials_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    store.write_trials(folder, FIXED)
    whole = folder.read(TRIALS)
    folder.write(TRIALS, whole[:-20])
    with pytest.raises(UserError, match=r"trials\.parquet is damaged"):
        store.load_trials(folder)
    folder.write(TRIALS, whole)
    rewritten(folder, lambda table: table.slice(0, 0), TRIALS)
    with pytest.raises(UserError, match="holds no trials"):
        store.load_trials(folder)
    folder.write(TRIALS, whole)
    rewritten(folder, lambda table: table.set_column(1, "query", pa.array([None, 4], pa.int32())), TRIALS)
    with pytest.raises(UserError, match="has missing values"):
        store.load_trials(folder)
    folder.write(TRIALS, folder.read(DRAWINGS))
    with pytest.raises(UserError, match="not of fixed trials"):
        store.load_trials(folder)
