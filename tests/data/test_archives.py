"""Archives from untrusted sources: harmless ones are read into memory, others are refused with their name."""

import random
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from zips import SMALL, zip_of

from oneshot.base.errors import UserError
from oneshot.data.archives import content_digest, read_zip


def claim_size(path: Path, size: int) -> None:
    """Make the only member of a zip claim another size, in both places where a zip stores it."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 22, size)
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    path.write_bytes(data)


def test_members_come_into_memory_and_nothing_onto_the_disk(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a/": b"", "a/b.png": b"one", "c.txt": b"two"})
    assert read_zip(path, limits=SMALL) == {"a/b.png": b"one", "c.txt": b"two"}
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "..\\x.png", "C:/x.png", "a/.."])
def test_a_path_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = zip_of(tmp_path / "a.zip", {"fine.png": b"", name: b"x"})
    with pytest.raises(UserError, match=r"a\.zip: the member '.*' has a path that leaves the archive"):
        read_zip(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.png": b"/etc/passwd"}, mode=kind | 0o777)
    with pytest.raises(UserError, match=r"'a\.png' is a link or a special file"):
        read_zip(path)


def test_a_member_that_would_inflate_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"bomb.png": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"would unpack to more than"):
        read_zip(path, limits=SMALL)
    with pytest.raises(UserError, match=r"'bomb\.png' has 50,000,000 bytes"):
        read_zip(path)


@pytest.mark.parametrize("claimed", [10, 0])
def test_a_bomb_that_claims_to_be_small_is_not_inflated(tmp_path: Path, claimed: int) -> None:
    path = zip_of(tmp_path / "a.zip", {"bomb.png": bytes(50_000_000)})
    claim_size(path, claimed)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"a\.zip is not a zip archive or is damaged \(Bad CRC"):
            read_zip(path, limits=SMALL)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000  # peak, in bytes
    finally:
        tracemalloc.stop()


def test_a_member_that_claims_to_be_larger_than_it_is_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.png": b"short"})
    claim_size(path, 900)
    with pytest.raises(UserError, match=r"a\.zip: the member 'a\.png' does not have the size it claims"):
        read_zip(path, limits=SMALL)


def test_too_many_members_and_too_large_an_archive_are_refused(tmp_path: Path) -> None:
    many = zip_of(tmp_path / "many.zip", {f"{number}.png": b"" for number in range(6)})
    with pytest.raises(UserError, match="6 members, more than 5"):
        read_zip(many, limits=SMALL)
    large = zip_of(tmp_path / "large.zip", {"a.png": bytes(200_000)}, compress=zipfile.ZIP_STORED)
    with pytest.raises(UserError, match="too large"):
        read_zip(large, limits=SMALL)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", b"one")
        archive.writestr("a.png", b"two")
    with pytest.raises(UserError, match="two members of the same name"):
        read_zip(tmp_path / "a.zip")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.png": b"secret"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is encrypted"):
        read_zip(path)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04", b"\x1f\x8b" + bytes(100)])
def test_what_is_no_zip_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip is not a zip archive or is damaged"):
        read_zip(tmp_path / "a.zip")


def test_a_folder_in_the_place_of_an_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_zip(tmp_path)


def test_no_damage_to_a_zip_gets_past_as_other_than_a_user_error(tmp_path: Path) -> None:
    members = {f"a/{number}.png": bytes(range(number, number + 99)) for number in range(4)}
    path = zip_of(tmp_path / "a.zip", members)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            found = read_zip(path, limits=SMALL)
        except UserError as error:
            assert "a.zip" in str(error)
        else:
            assert set(found.values()) <= set(members.values())  # names may be damaged: they have no checksum


def test_the_content_digest_is_of_the_pictures_and_not_of_the_zip(tmp_path: Path) -> None:
    members = {"b.png": b"2", "a.png": b"1", "readme.txt": b"x"}
    stored = read_zip(zip_of(tmp_path / "a.zip", members, compress=zipfile.ZIP_STORED))
    deflated = read_zip(zip_of(tmp_path / "b.zip", dict(reversed(members.items()))))
    assert content_digest(stored) == content_digest(deflated)
    assert content_digest(stored) != content_digest({**stored, "a.png": b"2"})
    assert content_digest(stored) != content_digest({"b.png": b"2", "c.png": b"1"})
