"""`python -m oneshot.record` keeps a record and makes pages and pictures again; here on copies of the real ones."""

import json
import re
import shutil
from pathlib import Path

import pytest
import runs

from oneshot.cli import main as cli
from oneshot.records import pages, record

PAGES = ("README", "CLUSTER", "RECORDS", "JOBS")  # the names of their paths in `pages`


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the records and of the pages, which the command uses in place of the real ones."""
    shutil.copytree(record.records_folder(), tmp_path / "records")
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    for name in PAGES:
        page = tmp_path / name / "README.md"
        page.parent.mkdir()
        shutil.copy(getattr(pages, name), page)
        monkeypatch.setattr(pages, name, page)
    return tmp_path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The study of the record `quick`, as the folder of a finished run."""
    return Path(runs.finished(tmp_path / "run", record.read_all()["quick"]).path)


def test_pages_and_pictures_are_made_anew_as_they_are(copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [copies / name / "README.md" for name in PAGES]
    pictures = [
        copies / "records" / file for name, kept in record.read_all().items() for file in record.screens(name, kept)
    ]
    before = {path: path.read_bytes() for path in (*shown, *pictures)}
    assert len(pictures) >= 2
    for page in shown:
        page.write_text(re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", r"\1\3", page.read_text(), flags=re.DOTALL))
    for path in pictures:
        path.unlink()
    assert all(page.read_bytes() != before[page] for page in shown)
    assert cli._answer(["record"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    said = capsys.readouterr().out.replace("\n", "")
    assert all(str(path) in said for path in before)


def test_a_study_is_kept_by_its_name_and_shown(copies: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._answer(["record", str(study), "--name", "mine"]) == 0
    made = json.loads((copies / "records/mine.json").read_text())
    assert {key: made.pop(key) for key in ("changes", "judged")} == {"changes": {}, "judged": 1}
    assert made == record.read_all()["quick"]
    assert (copies / "records/mine.svg").read_text().count("JOB=quick") == 1
    assert "| `mine`" in (copies / "RECORDS/README.md").read_text()


def test_a_name_that_is_a_path_is_refused(copies: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((copies / "records").rglob("*"))
    assert cli._answer(["record", str(study), "--name", "a/b"]) == 2
    assert "error: --name a/b: a record's name is one word, as in --name quick" in capsys.readouterr().err
    assert sorted((copies / "records").rglob("*")) == before
