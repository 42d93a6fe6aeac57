"""Files over HTTP: complete or not at all, and no byte is fetched twice if that can be avoided."""

from dataclasses import replace
from pathlib import Path

import pytest
from web import Site, serve

from oneshot.base.errors import UserError
from oneshot.data.download import NotThere, Patience, download

BODY = bytes(range(256)) * 2000
HASTE = Patience(attempts=3, pause=0)
HURRY = replace(HASTE, read=0.3)  # only for silent servers: on a loaded machine others may need longer


def fetch(site: Site, target: Path, **how: object) -> bool:
    return download(f"{site.url}/a.zip", target, **{"limit": 1 << 20, "patience": HASTE, **how})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.zip"


def left_over(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_a_file_comes_whole_and_its_progress_is_told(target: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serve(Site({"/a.zip": BODY})) as site:
        fetch(site, target, progress=lambda done, total: told.append((done, total)))
    assert target.read_bytes() == BODY
    assert told[0] == (0, len(BODY)) and told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert left_over(target) == ["a.zip"]


def test_a_cut_connection_is_taken_up_where_it_broke_off(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, cuts=[98_304, 49_152])) as site:
        fetch(site, target)
        assert site.ranges_asked() == [None, "bytes=98304-", "bytes=147456-"]
    assert target.read_bytes() == BODY


def test_a_later_command_goes_on_where_an_earlier_one_stopped(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, cuts=[98_304, 0, 0])) as site:
        with pytest.raises(UserError, match=r"the connection was cut.*98,304 bytes are kept"):
            fetch(site, target)
        assert not target.exists()
        assert fetch(site, target)
        assert site.ranges_asked()[-1] == "bytes=98304-"
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_is_asked_again_from_the_beginning(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, ranges=False, cuts=[98_304])) as site:
        fetch(site, target)
        assert site.ranges_asked() == [None, "bytes=98304-"]
    assert target.read_bytes() == BODY


def test_a_file_that_changed_on_the_server_is_not_patched_together(target: Path) -> None:
    with serve(Site({"/a.zip": b"x" * 400_000}, cuts=[98_304, 0, 0])) as site:
        with pytest.raises(UserError):
            fetch(site, target)
        site.files["/a.zip"], site.etag = BODY, '"2"'
        fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_thrown_away(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, etag="", cuts=[98_304, 0, 0])) as site:
        with pytest.raises(UserError):
            fetch(site, target)
        site.codes = [416]
        fetch(site, target)
        assert site.ranges_asked()[-2:] == ["bytes=98304-", None]
    assert target.read_bytes() == BODY


def test_the_part_of_another_address_is_not_used(target: Path) -> None:
    with serve(Site({"/a.zip": b"x" * 400_000}, cuts=[98_304, 0, 0])) as site, pytest.raises(UserError):
        fetch(site, target)
    with serve(Site({"/a.zip": BODY})) as site:
        fetch(site, target)
        assert site.ranges_asked() == [None]
    assert target.read_bytes() == BODY


def test_a_server_that_falls_silent_is_given_up_and_asked_again(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, stalls=1)) as site:
        fetch(site, target, patience=HURRY)
        assert len(site.asked) >= 2  # on a loaded machine the server may seem silent once more
    assert target.read_bytes() == BODY


def test_a_server_that_stays_silent_is_an_error_that_says_so(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, stalls=99)) as site, pytest.raises(UserError, match="timed out"):
        fetch(site, target, patience=HURRY)
    assert not target.exists()


def test_a_missing_file_is_not_asked_for_twice(target: Path) -> None:
    with serve(Site({})) as site:
        with pytest.raises(NotThere, match=r"/a\.zip does not exist \(HTTP 404\)"):
            fetch(site, target)
        assert len(site.asked) == 1


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(target: Path, code: int) -> None:
    with serve(Site({"/a.zip": BODY}, codes=[code])) as site:
        fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_refusal_is_final(target: Path) -> None:
    with serve(Site({"/a.zip": BODY}, codes=[403])) as site:
        with pytest.raises(UserError, match="HTTP 403"):
            fetch(site, target)
        assert len(site.asked) == 1


def test_an_address_where_nobody_listens_is_named_at_once(target: Path) -> None:
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/a\.zip .*refused"):
        download("http://127.0.0.1:9/a.zip", target, limit=10, patience=HASTE)


def test_a_file_larger_than_the_limit_is_neither_fetched_nor_kept(target: Path) -> None:
    with serve(Site({"/a.zip": BODY})) as site, pytest.raises(UserError, match="more than 1,000 bytes"):
        fetch(site, target, limit=1000)
    assert left_over(target) == []


@pytest.mark.usefixtures("no_locks")
def test_without_locks_each_process_has_a_part_of_its_own(target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name("a.zip.part")
    part.write_bytes(b"another process is at it")
    with serve(Site({"/a.zip": BODY}, cuts=[98_304, 98_304, 98_304, 98_304])) as site:
        with pytest.raises(UserError, match=r"in 3 attempts \(the connection was cut\); try again later$"):
            fetch(site, target)
        assert left_over(target) == ["a.zip.part"]
        assert fetch(site, target)
        assert site.ranges_asked() == [None, "bytes=98304-", "bytes=196608-", None, "bytes=98304-"]
    assert target.read_bytes() == BODY and part.read_bytes() == b"another process is at it"
    assert left_over(target) == ["a.zip", "a.zip.part"]


def test_a_file_that_is_there_is_not_fetched(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"here")
    with serve(Site({"/a.zip": BODY})) as site:
        assert not fetch(site, target)
        assert site.asked == []
    assert target.read_bytes() == b"here"
