"""What people see: screens and tables at any width, plain lines in a log, and nothing that damages a terminal."""

import io
import pickle
import re

import pytest
from rich.console import Console
from samples import glyphs_result, history, outcome, result, small_study, study, trial

from oneshot.screen.console import compact, console, duration, interval, loss, percent, print_error, print_line
from oneshot.screen.live import StudyView, remaining
from oneshot.screen.progress import TrainView
from oneshot.screen.results import alphabet_table, result_panel
from oneshot.screen.tables import study_table, trial_rows

ESCAPE = "\x1b"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(\d+;)*[349]\d[;m]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def terminal(width: int = 140, height: int = 40) -> Console:
    return Console(file=Terminal(), width=width, height=height, force_terminal=True, highlight=False)


def log() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False, highlight=False)


def drawn(renderable, width: int, height: int = 40) -> list[str]:
    """The lines of something as a terminal shows them, without the codes."""
    screen = terminal(width, height)
    screen.print(renderable)
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.file.getvalue()).rstrip("\n").split("\n")


def view_of(record, width: int = 140) -> StudyView:
    view = StudyView(Console(file=io.StringIO(), width=width))
    view.update(record)
    return view


def told(*records) -> list[str]:
    """The lines a log holds after these updates, without the time before each."""
    screen = log()
    with StudyView(screen) as view:
        for record in records:
            view.update(record)
    return [line[9:] for line in screen.file.getvalue().splitlines()]


def row_of(lines: list[str], *words: str) -> int:
    """The number of the only line with all these words in this order."""
    found = [i for i, line in enumerate(lines) if re.search(".*".join(map(re.escape, words)), line)]
    assert len(found) == 1, (words, lines)
    return found[0]


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
        screen.file.flush()
        text = raw.getvalue().decode(encoding)
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
    ],
)
def test_numbers_are_written_in_one_way(written, text):
    assert written == text


class TestStudyOnATerminal:
    NEEDED = ("trial", "status", "optim", "lr", "batch", "epoch", "val loss", "one-shot", "left")

    @pytest.mark.parametrize(("width", "also"), [(80, ()), (140, ("train", "images"))])
    def test_the_columns_that_matter_are_there(self, width, also):
        lines = drawn(view_of(small_study()), width)
        head = " ".join(lines[row_of(lines, "trial", "status", "optim") - 1 :][:2])
        assert all(name in head for name in (*self.NEEDED, *also))

    def test_a_trial_shows_its_newest_epoch_its_best_and_the_accuracy_of_the_best(self):
        lines = drawn(view_of(small_study()), 140)
        row = lines[row_of(lines, "002", "running")].split()
        epochs = history(12, floor=0.18, turn=10)
        assert row[:6] == ["002", "running", "adam", "2.5e-3", "256", "12/30"]
        expected = [loss(epochs[11]["train_loss"]), loss(epochs[11]["val_loss"]), loss(epochs[9]["val_loss"])]
        assert row[7:] == [*expected, f"{100 * epochs[9]['val_oneshot']:.1f}", "%", "1,234", "1:12"]  # 18 epochs of 4 s

    def test_running_trials_come_first_then_the_best_and_those_pending_last(self):
        order = [row.id for row in trial_rows(small_study())]
        assert order == ["002", "005", "000", "001", "003", "004", "006"]

    @pytest.mark.parametrize("status", ["stopped", "finished", "running", "diverged"])
    def test_the_trial_with_the_lowest_loss_leads_however_it_ended(self, status):
        rows = trial_rows(study(trial("000", "finished", 9, floor=0.3), trial("001", status, 9, floor=0.2)))
        assert [row.id for row in rows if row.leads] == ["001"]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
    def test_a_loss_that_is_no_number_never_leads(self, bad):
        rows = trial_rows(study(trial("000", "finished", 9), trial("001", "diverged", 1) | {"val_loss": bad}))
        assert [row.id for row in rows if row.leads] == ["000"]

    @pytest.mark.parametrize("height", [20, 30, 50])
    def test_hundreds_of_trials_fit_the_screen_and_the_rest_is_counted(self, height):
        trials = [trial(f"{i:03}", "running" if i < 4 else "stopped", 3, floor=0.3 + i / 1000) for i in range(300)]
        lines = drawn(view_of(study(*trials)), 100, height)
        shown = sum(bool(re.match(r"[★ ] \d{3} ", line)) for line in lines)
        assert len(lines) < height
        assert lines[-1].strip() == f"and {300 - shown} stopped below"
        assert "296 stopped" in "".join(lines)

    def test_the_time_goes_on_between_updates(self):
        clock = Clock()
        view = StudyView(log(), clock=clock)
        view.update(small_study())
        clock.now = 60.0
        lines = drawn(view, 140)
        assert re.search(r"3:05  about \d+:\d\d left$", lines[0])

    def test_the_caller_may_change_the_record_after_an_update(self):
        record = small_study()
        view = view_of(record)
        before = drawn(view, 140)
        record["trials"].clear()
        record["dataset"] = "changed"
        assert drawn(view, 140)[1:] == before[1:]
        assert "changed" not in drawn(view, 140)[0]

    def test_generated_glyphs_are_named_as_such(self):
        assert "glyphs (generated)" in drawn(view_of(study(trial("000"), dataset="glyphs (generated)")), 80)[0]

    def test_the_screen_goes_when_the_study_is_done(self):
        screen = terminal()
        with StudyView(screen) as view:
            view.update(small_study())
        assert screen.file.getvalue().rstrip().endswith("\x1b[2K")  # the last thing done was to erase it
        assert screen.file.getvalue().rindex(SHOW) > screen.file.getvalue().rindex(HIDE)

    def test_an_exception_gives_the_cursor_back_and_leaves_the_last_screen(self):
        screen = terminal()
        with pytest.raises(KeyboardInterrupt), StudyView(screen) as view:
            view.update(small_study())
            raise KeyboardInterrupt
        text = screen.file.getvalue()
        assert text.rindex(SHOW) > text.rindex(HIDE)
        assert "OutOfMemoryError" in text[text.rindex("\x1b[2K") :]

    def test_a_dumb_terminal_gets_lines(self, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        screen = terminal()
        with StudyView(screen) as view:
            view.update(study(trial("000", "running")))
        assert "trial 000 started" in screen.file.getvalue()
        assert HIDE not in screen.file.getvalue()


def epochs_told(first: int, last: int) -> list[str]:
    """The lines of these epochs of a leading trial, told at once."""
    lines = (
        "trial 000 epoch  1/30  train 0.6500  75.0 %  val 0.7000  72.5 %  one-shot  50.0 %   1,234 img/s  best",
        "trial 000 epoch  2/30  train 0.4250  83.3 %  val 0.4500  81.7 %  one-shot  63.3 %   1,234 img/s  best",
        "trial 000 epoch  3/30  train 0.3500  87.5 %  val 0.3667  86.2 %  one-shot  70.0 %   1,234 img/s  best",
    )
    return [*lines[first - 1 : last - 1], f"{lines[last - 1]} of all"]


class TestStudyInALog:
    def test_every_event_is_told_once_and_in_order(self):
        first, second = trial("000", "running"), trial("001", "pending") | {"settings": {}}
        lines = told(
            study(first, second),
            study(trial("000", "running", 1), second),
            study(trial("000", "running", 1), second),
            study(trial("000", "running", 3), trial("001", "running")),
            study(trial("000", "stopped", 3), trial("001", "diverged", 1, error="not finite in epoch 2")),
        )
        assert lines == [
            "study quick: omniglot, split lake, 2 trials of up to 30 epochs, random search, "
            "2 at once with 2 cpu workers each",
            "trial 000 started: adam, lr 3e-3, batch 128",
            *epochs_told(1, 1),
            *epochs_told(2, 3),
            "trial 001 started: adam, lr 3e-3, batch 128",
            "trial 000 stopped early after 3 of 30 epochs; best val loss 0.3667 at epoch 3",
            "trial 001 epoch  1/30  train 0.6500  75.0 %  val 0.7000  72.5 %  one-shot  50.0 %   1,234 img/s  best",
            "trial 001 diverged after 1 of 30 epochs: not finite in epoch 2; best val loss 0.7000 at epoch 1",
        ]

    def test_a_trial_that_ends_unseen_is_told_whole(self):
        lines = told(study(trial("000", "pending")), study(trial("000", "failed", 2, error="Boom\n  in line 3")))
        assert lines[1:] == [
            "trial 000 started: adam, lr 3e-3, batch 128",
            *epochs_told(1, 2),
            "trial 000 failed after 2 of 30 epochs: Boom in line 3; best val loss 0.4500 at epoch 2",
        ]

    def test_epochs_repeated_after_a_fault_are_not_told_again(self):
        lines = told(*(study(trial("000", "running", epochs)) for epochs in (0, 2, 1, 2, 3)))
        assert lines[2:] == [*epochs_told(1, 2), *epochs_told(3, 3)]

    def test_the_epoch_in_which_a_trial_diverged_is_no_epoch(self):
        ended = trial("000", "diverged", 1, error="not finite")
        ended["history"].append({"epoch": 2, "val_loss": None, "ended": "diverged", "best": False})
        lines = told(study(trial("000", "pending")), study(ended))
        assert [line for line in lines if " epoch " in line and "train" in line] == epochs_told(1, 1)

    def test_a_study_taken_up_again_does_not_retell_what_was(self):
        ended = [trial("000", "stopped", 3), trial("001", "diverged", 2, error="nan")]
        before, after = trial("002", "pending", 2, floor=0.3), trial("002", "running", 3, floor=0.3)
        lines = told(study(*ended, before), study(*ended, after))
        assert lines[0].endswith("; taken up again, 2 had ended")
        assert lines[1:] == [
            "trial 002 goes on after epoch 2: adam, lr 3e-3, batch 128",
            "trial 002 epoch  3/30  train 0.4500  87.5 %  val 0.4667  86.2 %  one-shot  70.0 %   1,234 img/s  best",
        ]

    def test_lines_of_epochs_fit_a_log(self):
        lines = told(study(trial("000"), epochs=200), study(trial("000", "running", 200), epochs=200))
        assert len(lines) == 2 + 200
        assert max(map(len, lines[1:])) + 9 <= 120


class TestPickling:
    def test_a_view_is_pickled_while_its_screen_is_on(self):
        screen = terminal()
        with StudyView(screen) as view:
            view.update(small_study())
            copy = pickle.loads(pickle.dumps(view))
        assert drawn(copy, 140)[2:] == drawn(view, 140)[2:]

    def test_a_copy_prints_on_a_console_of_the_same_kind_and_repeats_nothing(self, capsys):
        view = StudyView(Console(stderr=True, width=120))
        view.update(study(trial("000", "running", 1)))
        copy = pickle.loads(pickle.dumps(view))
        capsys.readouterr()
        copy.update(study(trial("000", "running", 2)))
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r" +2:05  trial 000 epoch  2/30 .*\n", err)


class TestRemaining:
    def rows(self, *trials):
        return trial_rows(study(*trials))

    def test_nothing_is_foretold_before_the_first_epoch(self):
        assert remaining(self.rows(trial("000", "running"), trial("001", "pending")), concurrent=1) is None

    def test_one_running_trial_takes_its_own_pace_to_its_last_epoch(self):
        assert remaining(self.rows(trial("000", "running", 10)), concurrent=1) == 20 * 4.0

    def test_trials_to_come_take_as_long_as_those_that_ended(self):
        rows = self.rows(trial("000", "stopped", 10), *(trial(f"{i:03}", "pending") for i in range(1, 7)))
        assert remaining(rows, concurrent=2) == 6 * (10 + 40) / 2

    def test_it_is_never_less_than_the_longest_running_trial(self):
        rows = self.rows(trial("000", "running", 1), trial("001", "running", 29))
        assert remaining(rows, concurrent=2) == 29 * 4.0


class TestTraining:
    def test_a_log_has_one_line_an_epoch_and_the_best_is_marked(self):
        screen = log()
        with TrainView(screen) as view:
            view.start(epochs=12, steps_per_epoch=100)
            for row in history(3, turn=2):
                view.step(50, 0.5, 1000.0)
                view.epoch(row, row["epoch"] < 3)
            view.note("something [odd]")
        lines = screen.file.getvalue().splitlines()
        assert [line.split()[1] for line in lines[:3]] == ["1/12", "2/12", "3/12"]
        assert [line.endswith("  best") for line in lines[:3]] == [True, True, False]
        assert lines[3:] == ["warning: something [odd]"]

    def test_a_terminal_has_a_bar_with_loss_rate_and_the_time_left(self):
        screen, clock = terminal(100), Clock()
        with TrainView(screen, clock=clock) as view:
            view.start(epochs=4, steps_per_epoch=100, done=1)
            clock.now = 30.0
            view.step(50, 0.4321, 1234.5)
            view._progress.refresh()
            text = screen.file.getvalue()
        assert "epoch 2/4" in text
        assert " 50/100  loss 0.4321  1,234 images/s  2:30 left" in text  # 50 steps in 30 s, 250 to come

    def test_rows_stand_under_their_heads(self):
        screen = terminal(100)
        with TrainView(screen) as view:
            view.start(epochs=200, steps_per_epoch=10)
            view.epoch(history(1)[0], True)
        lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.file.getvalue()).replace("\r", "\n").split("\n")
        head, row = lines[row_of(lines, "train loss", "one-shot")], lines[row_of(lines, "1/200", "0.6500")]
        for name, value in (
            ("epoch", "1/200"),
            ("train loss", "0.6500"),
            ("one-shot", "50.0 %"),
            ("images/s", "1,234"),
        ):
            assert head.index(name) + len(name) == row.index(value) + len(value)
        assert row.endswith("★ best") and len(row) <= 80

    def test_an_exception_gives_the_cursor_back(self):
        screen = terminal()
        with pytest.raises(RuntimeError), TrainView(screen) as view:
            view.start(epochs=2, steps_per_epoch=10)
            raise RuntimeError
        assert screen.file.getvalue().rindex(SHOW) > screen.file.getvalue().rindex(HIDE)


class TestStudyTable:
    def test_the_best_comes_first_and_only_the_top_is_shown(self):
        trials = [trial(f"{i:03}", "stopped", 3, floor=0.9 - i / 100) for i in range(20)]
        lines = drawn(study_table(study(*trials), top=4), 100)
        assert [line.split()[0] for line in lines if " stopped " in line] == ["★", "018", "017", "016"]
        assert "  and 16 more" in lines

    def test_it_says_what_early_stopping_saved(self):
        trials = [
            trial("000", "finished", 30),
            trial("001", "stopped", 1),
            trial("002", "stopped", 21),
            trial("003", "stopped", 9),
        ]
        assert row_of(
            drawn(study_table(study(*trials)), 100), "ran 61 of 120 epochs in 2:05: 49 % saved by early stopping"
        )

    def test_epochs_lost_to_broken_trials_are_no_saving(self):
        lines = drawn(study_table(study(trial("000", "finished", 30), trial("001", "failed", 15, error="no"))), 100)
        assert row_of(lines, "ran 45 of 60 epochs in 2:05: 25 % not run by trials that broke")

    def test_broken_trials_are_named_with_the_reason_they_share(self):
        broken = [trial(f"{i:03}", "failed", error="CUDA out of memory") for i in range(3)]
        lines = drawn(study_table(study(*broken, trial("003", "diverged", 1, error="not finite"))), 100)
        assert row_of(lines, "failed 000 001 002: CUDA out of memory")
        assert row_of(lines, "diverged 003: not finite")
        assert row_of(lines, "1 diverged · 3 failed")

    def test_settings_that_differ_have_a_column(self):
        trials = [trial(f"{i:03}", "finished", 3, weight_decay=i / 100, **{"model.name": "conv4"}) for i in range(2)]
        text = "\n".join(drawn(study_table(study(*trials)), 140))
        assert re.search(r"001 .* 1e-2 ", text) and "decay" in text
        assert "conv4" not in text

    def test_a_record_without_histories_has_no_column_of_them(self):
        record = study(trial("000", "finished", 3))
        assert "one-shot" in "".join(drawn(study_table(record), 100))
        del record["trials"][0]["history"]
        assert "one-shot" not in "".join(drawn(study_table(record), 100))

    def test_a_study_in_which_nothing_worked_says_so(self):
        lines = drawn(study_table(study(trial("000", "failed", error="boom"))), 80)
        assert lines[0] == "No trial got as far as a validation loss."


class TestResult:
    def test_this_run_stands_in_its_place_on_the_ladder_of_its_protocol(self):
        lines = drawn(result_panel(result()), 140)
        start = (
            row_of(lines, "│  lake400   ", "  │")
            if False
            else lines.index(next(x for x in lines if re.match(r"│  lake400 +│", x)))
        )
        names = [re.split(r"  +", line.strip("│ ▶"))[0].strip() for line in lines[start + 1 : start + 10]]
        assert names[5] == "this run"  # 90.8 %
        assert names[4] == "convolutional Siamese net"  # 92.0 %
        assert names[6] == "deep convnet"  # 86.5 %

    def test_the_source_documents_figure_is_compared_with_its_own_protocol_only(self):
        lines = drawn(result_panel(result()), 140)
        headings = [(i, m[1]) for i, line in enumerate(lines) if (m := re.match(r"│  (\w+) +│$", line))]
        at = row_of(lines, "source document  ", "91.2 %")
        assert [name for i, name in headings if i < at][-1] == "seed352"

    def test_data_set_split_network_and_every_interval_are_named(self):
        text = "\n".join(drawn(result_panel(result()), 140))
        for words in ("omniglot", "split lake", "trial 007 at epoch 27", "87.5–93.2 %", "83.5–84.9 %", "92.6–93.6 %"):
            assert words in text

    def test_glyphs_have_no_ladder(self):
        text = "\n".join(drawn(result_panel(glyphs_result()), 140))
        assert "do not compare with glyphs (generated)" in text
        assert "BPL" not in text and "▶" not in text

    def test_another_number_of_ways_has_no_ladder(self):
        five = result(protocols={"within": outcome(9_500, 10_000, 0.945, 0.954, n_way=5)})
        text = "\n".join(drawn(result_panel(five), 140))
        assert "5-way 1-shot" in text
        assert "do not compare with within here" in text
        assert "▶" not in text

    def test_a_network_that_fails_still_lies_on_the_scale(self):
        dead = result(protocols={"lake400": outcome(20, 400, 0.033, 0.076)})
        lines = drawn(result_panel(dead), 140)
        assert "●" in lines[row_of(lines, "this run", "5.0 %")]

    def test_what_was_not_measured_is_said_with_the_reason(self):
        skipped = {"lake400": "this dataset has no fixed trials"}
        text = "\n".join(drawn(result_panel(glyphs_result() | {"skipped": skipped}), 140))
        assert "not measured: lake400: this dataset has no fixed trials" in text

    def test_judging_more_than_once_is_said(self):
        assert "judged 3 times" in "\n".join(drawn(result_panel(result(test_evaluations=3)), 140))
        assert "judged" not in "\n".join(drawn(result_panel(result(test_evaluations=1)), 140))

    def test_a_single_training_has_no_trial_to_name(self):
        alone = {"id": None, "settings": {}, "epoch": 4, "val_loss": 0.5}
        assert "the network at epoch 4, val loss 0.5000" in "\n".join(drawn(result_panel(result(best_trial=alone)), 80))

    def test_alphabets_go_from_the_best_to_the_worst(self):
        lines = drawn(alphabet_table(result()), 80)
        assert [line.split("  ")[0] for line in lines[2:]] == ["Old Church Slavonic (Cyrillic)", "Tengwar", "Gurmukhi"]
