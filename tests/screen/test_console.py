"""Everything that is printed: it fits any width, is plain text in a log, and cannot damage a terminal."""

import io
import re

import pytest
from samples import glyphs_result, history, result, small_study, study, trial
from terminals import Terminal, drawn, log, view_of

from oneshot.screen.console import compact, console, duration, interval, loss, percent, print_error, print_line, size
from oneshot.screen.live import StudyView
from oneshot.screen.progress import TrainView
from oneshot.screen.results import alphabet_table, result_panel
from oneshot.screen.tables import study_table

pytestmark = pytest.mark.usefixtures("plain_terminal")
ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[(\d+;)*[349]\d[;m]")

SHOWN = {
    "a running study": lambda: view_of(small_study()),
    "a study before its first epoch": lambda: view_of(study(*(trial(f"{i:03}", "pending") for i in range(5)))),
    "a study of long runs": lambda: view_of(
        study(trial("000", "running", 130, lr=1.23e-4, optimizer="adamw"), epochs=200)
    ),
    "a study's table": lambda: study_table(small_study()),
    "a result": lambda: result_panel(result()),
    "a result on glyphs": lambda: result_panel(glyphs_result()),
    "accuracy by alphabet": lambda: alphabet_table(result()),
}


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
@pytest.mark.parametrize("what", SHOWN)
def test_no_line_is_wider_than_the_terminal_and_none_is_wrapped(what, width):
    lines = drawn(SHOWN[what](), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= len(drawn(SHOWN[what](), 1000)) + 3  # long sentences may wrap, tables may not


class TestConsole:
    @pytest.mark.parametrize(
        "forced", [{}, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "37", "TTY_INTERACTIVE": "1"}]
    )
    def test_a_log_is_120_wide_and_gets_no_control_code_whatever_is_forced(self, monkeypatch, forced):
        for name, value in forced.items():
            monkeypatch.setenv(name, value)
        stream = io.StringIO()
        monkeypatch.setattr("sys.stdout", stream)
        screen = console()
        with StudyView(screen) as view:
            view.update(small_study())
        with TrainView(screen) as training:
            training.start(3, 10)
            training.step(1, 0.5, 100.0)
            training.epoch(history(1)[0], True)
        screen.print(study_table(small_study()), result_panel(result()), alphabet_table(result()))
        print_error(screen, "no")
        assert ESCAPE not in stream.getvalue() and "\r" not in stream.getvalue()
        assert screen.width == 120

    def test_a_terminal_gets_colour_and_no_color_takes_it_away(self, monkeypatch):
        def printed() -> str:
            stream = Terminal()
            monkeypatch.setattr("sys.stdout", stream)
            console().print(study_table(small_study()))
            return stream.getvalue()

        assert COLOUR.search(printed())
        monkeypatch.setenv("NO_COLOR", "1")
        assert not COLOUR.search(printed())

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
    def test_a_stream_that_knows_no_bars_and_dashes_is_written_in_ascii(self, monkeypatch, encoding):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
        screen = console()
        screen.print(study_table(small_study()), result_panel(result()), alphabet_table(result()))
        screen.print("▶ ≥ 98 % → ≤ 6 s …")
        screen.file.flush()
        text = raw.getvalue().decode(encoding)
        assert re.search(r"> >= 98 % -> <= 6 s (\.\.\.|\x85|…)", text)
        assert re.search(r"\* 000 +finished", text)
        assert re.search(r"Tengwar +40 +85\.0 % +=+-+ ", text)

    def test_quiet_prints_nothing(self, monkeypatch):
        stream = Terminal()
        monkeypatch.setattr("sys.stdout", stream)
        with StudyView(console(quiet=True)) as view:
            view.update(small_study())
        assert stream.getvalue() == ""

    def test_errors_go_to_standard_error(self, capsys):
        print_error(console(stderr=True), "wrong")
        assert capsys.readouterr() == ("", "error: wrong\n")

    def test_an_error_is_one_unbroken_line_with_its_brackets(self):
        screen = log()
        path = "/data/" + "very_long_folder/" * 12 + "drawings.parquet"
        print_error(screen, f"{path} is truncated;\n  see [data] in the job, or [bold]")
        assert screen.file.getvalue() == f"error: {path} is truncated; see [data] in the job, or [bold]\n"

    def test_an_error_cannot_steer_the_terminal(self):
        screen = log()
        print_error(screen, "the member 'a\x1b[2J\x07\x9bm' is é")
        assert screen.file.getvalue() == "error: the member 'a\\x1b[2J\\x07\\x9bm' is é\n"

    def test_a_file_name_that_is_no_text_is_printed_all_the_same(self, monkeypatch):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="utf-8"))
        screen = console()
        print_line(screen, "run a\udcff–")
        screen.file.flush()
        assert raw.getvalue() == b"run a\\udcff\xe2\x80\x93\n"

    def test_a_line_is_printed_as_it_is(self):
        screen = log()
        print_line(screen, "a [red] :smile: " + "x" * 200)
        assert screen.file.getvalue() == "a [red] :smile: " + "x" * 200 + "\n"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (percent(0.925), "92.5 %"),
        (percent(1.0), "100.0 %"),
        (percent(None), "–"),
        (interval(0.889, 0.943), "88.9–94.3 %"),
        (loss(0.69314), "0.6931"),
        (loss(12345.6), "1e+04"),
        (loss(float("nan")), "nan"),
        (compact(0.003), "3e-3"),
        (compact(0.0012345), "1.23e-3"),
        (compact(0.1), "1e-1"),
        (compact(1.0), "1e0"),
        (compact(0.0), "0"),
        (duration(59.6), "1:00"),
        (duration(3725), "1:02:05"),
        (duration(2 * 86400 + 3 * 3600), "2 d 03:00"),
        (duration(-3), "0:00"),
        (duration(None), "–"),
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(999_900), "1 MB"),
        (size(310_000_000), "310 MB"),
        (size(58_149e6), "58.1 GB"),
    ],
)
def test_numbers_are_written_in_one_way(written, text):
    assert written == text
