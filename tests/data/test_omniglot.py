"""Omniglot: archives are found and verified, drawings are kept bit for bit, Lake's 400 trials are resolved."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web import Site, serve
from zips import MEMBERS, alphabet, made_archives, zip_of

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import store
from oneshot.data.archives import content_digest
from oneshot.data.download import Patience
from oneshot.data.omniglot import Archive, drawings, obtain, resolve_trials
from oneshot.data.png import encode

HASTE = Patience(attempts=2, pause=0)
X = Archive("images_x", content_digest(MEMBERS), ("deep/images_x.zip", "images_x.zip"))


def get(source: object, downloads: Path) -> dict[str, bytes]:
    return obtain(X, source=str(source), downloads=downloads, progress=lambda *_: None, patience=HASTE)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The path of the archive X, in a folder of its own."""
    (tmp_path / "given").mkdir()
    return zip_of(tmp_path / "given" / "images_x.zip", MEMBERS)


# --- where archives are found, and how they are verified


@pytest.mark.parametrize("place", ["images_x.zip", "deep/images_x.zip"])
def test_an_archive_is_found_in_a_folder_where_the_official_home_has_it_or_directly(tmp_path: Path, place: str) -> None:
    (tmp_path / "given" / "deep").mkdir(parents=True)
    zip_of(tmp_path / "given" / place, MEMBERS)
    assert get(tmp_path / "given", tmp_path / "archives") == MEMBERS
    assert not (tmp_path / "archives").exists()


@pytest.mark.parametrize("place", ["images_x.zip", "deep/images_x.zip"])
def test_an_archive_is_found_at_an_address_in_either_place(archive: Path, tmp_path: Path, place: str) -> None:
    with serve(Site({f"/base/{place}": archive.read_bytes()})) as site:
        assert get(f"{site.url}/base/", tmp_path / "archives") == MEMBERS
        assert get(f"{site.url}/base/", tmp_path / "archives") == MEMBERS
        assert site.paths().count(f"/base/{place}") == 1, "the second time it is there already"


def test_an_archive_that_is_nowhere_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold deep/images_x\.zip or images_x\.zip; get it from https://"):
        get(tmp_path, tmp_path / "archives")
    with pytest.raises(UserError, match="is not a folder"):
        get(tmp_path / "missing", tmp_path / "archives")
    with serve(Site({})) as site, pytest.raises(UserError, match=r"images_x\.zip does not exist \(HTTP 404\)"):
        get(site.url, tmp_path / "archives")


def test_a_drawing_that_was_changed_is_noticed(tmp_path: Path) -> None:
    changed = {**MEMBERS, next(iter(MEMBERS)): b"\0" * 300}
    zip_of(tmp_path / "images_x.zip", changed)
    with pytest.raises(UserError, match=r"images_x\.zip is not Omniglot's images_x: .* the digest [0-9a-f]{12}…"):
        get(tmp_path, tmp_path / "archives")


def test_an_archive_of_something_else_is_refused_and_not_kept(tmp_path: Path) -> None:
    other = zip_of(tmp_path / "other.zip", {"setup.py": b"print()"}).read_bytes()
    for body in (other, b"<html>", b""):
        with (
            serve(Site({"/images_x.zip": body})) as site,
            pytest.raises(UserError, match=r"images_x\.zip is not") as it,
        ):
            get(site.url, tmp_path / "archives")
        assert str(it.value).startswith(f"{site.url} did not send Omniglot's images_x")
        assert not (tmp_path / "archives" / "images_x.zip").exists()


def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"images_x\.zip is not a zip archive or is damaged"):
        get(archive.parent, tmp_path / "archives")


def test_a_fetched_archive_that_was_damaged_since_is_fetched_again(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "images_x.zip").write_bytes(b"damaged")
    with serve(Site({"/images_x.zip": archive.read_bytes()})) as site:
        assert get(site.url, tmp_path / "archives") == MEMBERS


def test_two_halves_of_different_archives_are_fetched_again_from_the_beginning(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    wrong = bytes(len(whole))
    with serve(Site({"/images_x.zip": wrong}, etag="", cuts=[0, 0, 0, 0, 300, 0])) as site:
        with pytest.raises(UserError, match="attempts"):
            get(site.url, tmp_path / "archives")
        site.cuts = [300, 0]
        with pytest.raises(UserError, match="attempts"):
            get(site.url, tmp_path / "archives")
        site.files["/images_x.zip"] = whole  # without an ETag nothing says that the file has changed
        assert get(site.url, tmp_path / "archives") == MEMBERS
        assert site.ranges_asked()[-1] is None


def test_drawings_are_known_by_their_paths_and_strange_paths_are_refused() -> None:
    found = drawings(dict(reversed(MEMBERS.items())), "images_x")
    assert [(one.alphabet, one.character, one.drawer) for one in found] == [
        ("Greek", "character01", drawer) for drawer in range(1, 21)
    ]
    for path in ("images_x/Greek/0001_01.png", "other/Greek/character01/0001_01.png", "images_x/G/characterXX/1_1.png"):
        with pytest.raises(UserError, match="which is not <alphabet>/characterNN"):
            drawings({path: b""}, "images_x")


# --- fixed trials, on generated archives


def test_the_pictures_of_a_run_are_found_among_the_drawings() -> None:
    evaluation, runs = made_archives()
    trials, alphabets = resolve_trials(runs, evaluation, first_row=1000)
    assert alphabets == ("Beth",)
    assert trials.support.shape == (40, 20) and trials.run.tolist() == [1] * 20 + [2] * 20
    position = trials.query - 1000 - 80
    right = trials.support[np.arange(40), trials.target] - 1000 - 80
    assert (position // 4 == right // 4).all(), "the query and its target show one character"
    assert position.reshape(2, 20).tolist() != sorted(position.tolist())
    assert set((position % 4)[:20]) == {0} and set((right % 4)[:20]) == {1}
    assert set((position % 4)[20:]) == {3} and set((right % 4)[20:]) == {2}


def test_identical_drawings_are_told_apart_by_alphabet_and_drawer() -> None:
    evaluation, runs = made_archives()
    plain, _ = resolve_trials(runs, evaluation, first_row=0)
    twin = encode(alphabet(1)[4, 0])  # the same drawing also in another alphabet and by another drawer
    evaluation["images_evaluation/Aleph/character03/0002_02.png"] = twin
    evaluation["images_evaluation/Beth/character09/1008_02.png"] = twin
    runs["run01/training/class09.png"] = twin
    again, _ = resolve_trials(runs, evaluation, first_row=0)
    assert np.array_equal(again.query, plain.query) and np.array_equal(again.support, plain.support)


def test_a_run_that_cannot_be_resolved_is_named() -> None:
    evaluation, runs = made_archives()
    stranger = encode(np.eye(105, dtype=bool))
    with pytest.raises(UserError, match="run02 is not by one drawer"):
        resolve_trials({**runs, "run02/test/item05.png": stranger}, evaluation, first_row=0)
    other_hand = encode(alphabet(1)[0, 3])
    with pytest.raises(UserError, match="run01 is not by one drawer"):
        resolve_trials({**runs, "run01/training/class01.png": other_hand}, evaluation, first_row=0)
    labels = runs["run01/class_labels.txt"].replace(b"class01", b"class77")
    with pytest.raises(UserError, match=r"run01/class_labels\.txt does not pair"):
        resolve_trials({**runs, "run01/class_labels.txt": labels}, evaluation, first_row=0)
    swapped = runs["run01/class_labels.txt"].replace(b"class01", b"x").replace(b"class02", b"class01")
    with pytest.raises(UserError, match="run01 pairs two characters"):
        resolve_trials(
            {**runs, "run01/class_labels.txt": swapped.replace(b"x", b"class02", 1)}, evaluation, first_row=0
        )


# --- the real Omniglot


def test_omniglot_has_the_published_numbers(omniglot: Folder) -> None:
    about = store.describe(omniglot)
    assert (about.name, about.height, about.width, about.bits, about.rows) == ("omniglot", 105, 105, 1, 32_460)
    for origin, alphabets, characters in (("background", 30, 964), ("evaluation", 20, 659)):
        names = [name for name in about.alphabets if about.origin[name] == origin]
        assert len(names) == alphabets
        assert sum(len(about.characters[name]) for name in names) == characters
    assert all(drawers == tuple(range(1, 21)) for drawers in about.drawers.values())
    assert all(about.drawings[name] == 20 * len(about.characters[name]) for name in about.alphabets)


def test_every_pixel_is_the_one_in_the_archive(omniglot: Folder, archives: Path) -> None:
    drawings = store.load(omniglot)
    assert len(set(map(bytes, drawings.packed))) == 32_459, "two drawings of Omniglot are identical"
    chosen = np.random.default_rng(0).choice(len(drawings), 200, replace=False)
    origins = store.describe(omniglot).origin
    opened = {origin: zipfile.ZipFile(archives / f"images_{origin}.zip") for origin in set(origins.values())}
    names = {origin: archive.namelist() for origin, archive in opened.items()}
    for position, ink in zip(chosen, drawings.pixels(chosen), strict=True):
        character, drawer = drawings.characters[drawings.character[position]], drawings.drawer[position]
        origin = origins[character.split("/")[0]]
        (path,) = (one for one in names[origin] if f"/{character}/" in one and one.endswith(f"_{drawer:02d}.png"))
        with Image.open(io.BytesIO(opened[origin].read(path))) as image:
            assert np.array_equal(np.asarray(image), ink == 0), path


def test_lakes_400_trials_are_resolved(omniglot: Folder) -> None:
    trials, drawings = store.load_trials(omniglot), store.load(omniglot)
    assert trials.support.shape == (400, 20) and np.array_equal(trials.run, np.repeat(np.arange(1, 21), 20))
    hit = trials.support[np.arange(400), trials.target]
    assert np.array_equal(drawings.character[trials.query], drawings.character[hit])
    assert not (trials.support == trials.query[:, None]).any()
    assert (drawings.alphabet[trials.support] == drawings.alphabet[trials.query][:, None]).all()
    assert (drawings.drawer[trials.support] != drawings.drawer[trials.query][:, None]).all()
    assert all(len(set(row)) == 20 for row in drawings.character[trials.support])
    assert len({drawings.drawer[row].tobytes() for row in trials.support}) <= 20
    assert all(len(set(drawings.drawer[row])) == 1 for row in trials.support)
    judged = {drawings.alphabets[index] for index in np.unique(drawings.alphabet[trials.query])}
    assert judged == set(store.describe(omniglot).trial_alphabets) and len(judged) == 10
