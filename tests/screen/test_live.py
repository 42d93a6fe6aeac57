"""What a study and a training show while they run, on a terminal and in a log."""

import re

import pytest
from samples import history, pulse, small_study, study, trial
from terminals import HIDE, SHOW, Clock, drawn, log, plain, row_of, terminal, told, view_of

from oneshot.screen import live
from oneshot.screen.console import loss
from oneshot.screen.live import StudyView, remaining
from oneshot.screen.progress import TrainView
from oneshot.screen.tables import counts_text, trial_rows

pytestmark = pytest.mark.usefixtures("plain_terminal")


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
        assert row[:6] == ["002", "running", "adam", "2.5e-3", "256", "12.0/30"]
        expected = [loss(epochs[11]["train_loss"]), loss(epochs[11]["val_loss"]), loss(epochs[9]["val_loss"])]
        assert row[7:] == [*expected, f"{100 * epochs[9]['val_oneshot']:.1f}", "%", "1,234", "1:12"]  # 18 epochs of 4 s

    def test_a_running_trial_shows_how_far_it_is_inside_its_epoch(self):
        record = study(trial("000", "running", 3), trial("001", "running", 3), trial("002", "stopped", 3))
        record["pulses"] = {"000": pulse(4, 499), "001": pulse(3, 400)}  # the second is older than the last report
        lines = drawn(view_of(record), 140)
        rows = [lines[row_of(lines, f" {name} ", "/30")] for name in ("000", "001", "002")]
        assert [re.search(r"\S+/30", row)[0] for row in rows] == ["3.9/30", "3.0/30", "3/30"]
        assert [re.search(r"\S+ +\S+$", row)[0].split() for row in rows] == [
            ["96", "1:44"],
            ["1,234", "1:48"],
            ["–", "–"],
        ]

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

    def test_between_updates_no_row_is_looked_at_again_unless_the_terminal_changes(self, monkeypatch):
        looked = []
        monkeypatch.setattr(live, "counts_text", lambda rows: looked.append(len(rows)) or counts_text(rows))
        view = view_of(small_study())
        first = drawn(view, 140)
        assert drawn(view, 140)[1:] == first[1:] and looked == [7]  # above is the time
        assert drawn(view, 80) != first and looked == [7, 7]
        view.update(study(trial("000", "running")))
        assert "1 running" in "".join(drawn(view, 80)) and looked == [7, 7, 1]

    def test_the_caller_may_change_the_record_after_an_update(self):
        record = small_study()
        view = view_of(record)
        before = drawn(view, 140)
        record["trials"].clear()
        record["dataset"] = "changed"
        assert drawn(view, 140)[1:] == before[1:]
        assert "changed" not in drawn(view, 140)[0]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, "random search"),
            ({"named": 0}, "random search"),
            ({"named": 1}, "1 named, then 6 random"),
            ({"named": 2, "searcher": "optuna"}, "2 named, then 5 by Optuna"),
            ({"named": 7}, "7 named points"),
        ],
    )
    def test_it_is_said_which_points_are_named_and_which_are_searched(self, changes, said):
        record = small_study() | changes
        assert f" · {said} · up to 30 epochs" in drawn(view_of(record), 80)[1]
        assert f"epochs, {said}, 2 at once" in told(record)[0]

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
    """The lines of these epochs of a leading trial, all from one update."""
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

    def test_the_best_epochs_are_those_whose_network_is_kept(self):
        """Kept by one-shot accuracy here: the second epoch has a lower loss than the first and is not marked."""
        running = trial("000", "running", 3)
        for row, best in zip(running["history"], (True, False, True), strict=True):
            row["best"] = best
        running["best_epoch"] = 3
        lines = told(*(study(each, keep="oneshot") for each in (trial("000", "pending"), running)))
        assert [line.endswith(("best", "best of all")) for line in lines[2:]] == [True, False, True]

    def test_a_study_taken_up_again_does_not_retell_what_was(self):
        ended = [trial("000", "stopped", 3), trial("001", "diverged", 2, error="nan")]
        before, after = trial("002", "pending", 2, floor=0.3), trial("002", "running", 3, floor=0.3)
        lines = told(study(*ended, before), study(*ended, after))
        assert lines[0].endswith("; resumed, 2 had ended")
        assert lines[1:] == [
            "trial 002 goes on after epoch 2: adam, lr 3e-3, batch 128",
            "trial 002 epoch  3/30  train 0.4500  87.5 %  val 0.4667  86.2 %  one-shot  70.0 %   1,234 img/s  best",
        ]

    def test_after_a_minute_without_an_event_it_is_said_how_far_the_trials_are(self):
        clock, screen = Clock(), log()
        record = study(trial("000", "running", 2), trial("001", "running"), trial("002", "pending"))
        record["pulses"] = {"000": pulse(3, 120)}
        with StudyView(screen, clock=clock) as view:
            for clock.now in (0.0, 59.0, 60.0, 61.0, 119.0, 120.0):
                view.update(record)
        lines = [line[9:] for line in screen.file.getvalue().splitlines()]
        said = [line for line in lines if line.startswith("running: ")]
        assert lines[-2:] == said  # at 60 and at 120 s
        assert said[0].startswith(
            "running: trial 000 epoch 3/30 step 120/500 loss 0.4321 96 img/s, trial 001 epoch 1/30; about "
        )

    def test_what_is_said_between_updates_has_its_time(self):
        clock, screen = Clock(), log()
        view = StudyView(screen, clock=clock)
        view.say("first")
        view.update(small_study() | {"seconds": 30.0})
        clock.now += 5
        view.say("no answer")
        lines = screen.file.getvalue().splitlines()
        assert (lines[0], lines[-1]) == ("   0:00  first", "   0:35  no answer")

    def test_of_many_trials_a_few_are_named(self):
        clock, screen = Clock(), log()
        with StudyView(screen, clock=clock) as view:
            for clock.now in (0.0, 60.0):
                view.update(study(*(trial(f"{i:03}", "running") for i in range(64))))
        assert screen.file.getvalue().rstrip().endswith("trial 003 epoch 1/30 and 60 more")

    def test_where_no_trial_runs_there_is_nothing_to_say(self):
        clock, screen = Clock(), log()
        with StudyView(screen, clock=clock) as view:
            for clock.now in (0.0, 60.0):
                view.update(study(trial("000", "finished", 30), trial("001", "pending")))
        assert "running: " not in screen.file.getvalue()

    def test_lines_of_epochs_fit_a_log(self):
        lines = told(study(trial("000"), epochs=200), study(trial("000", "running", 200), epochs=200))
        assert len(lines) == 2 + 200
        assert max(map(len, lines[1:])) + 9 <= 120


class TestRemaining:
    def rows(self, *trials):
        return trial_rows(study(*trials))

    def test_nothing_is_foretold_before_the_first_epoch(self):
        assert remaining(self.rows(trial("000", "running"), trial("001", "pending")), concurrent=1) is None

    def test_the_pulse_of_a_first_epoch_foretells_the_rest(self):
        record = study(trial("000", "running"), trial("001", "pending"), pulses={"000": pulse(1, 100)})
        assert remaining(trial_rows(record), concurrent=1) == (60 - 0.2) * 50.0

    def test_what_is_done_of_an_epoch_takes_no_more_time(self):
        rows = trial_rows(study(trial("000", "running", 10), pulses={"000": pulse(11, 250)}))
        assert remaining(rows, concurrent=1) == 19.5 * 4.0

    def test_one_running_trial_takes_its_own_pace_to_its_last_epoch(self):
        assert remaining(self.rows(trial("000", "running", 10)), concurrent=1) == 20 * 4.0

    def test_epochs_to_come_take_as_long_as_those_of_the_trials_that_ended(self):
        rows = self.rows(trial("000", "finished", 30), *(trial(f"{i:03}", "pending") for i in range(1, 7)))
        assert remaining(rows, concurrent=2) == pytest.approx(6 * (10 + 4 * 30) / 2)

    def test_of_those_at_a_rung_a_part_goes_on(self):
        rows = trial_rows(
            study(trial("000", "stopped", 10), *(trial(f"{i:03}", "pending") for i in range(1, 7)), rungs=[10])
        )
        # Six go to the first rung, two of the seven to the end; ten epochs took 50 s.
        assert remaining(rows, concurrent=2, rungs=[10], reduction=3) == (6 * 10 + 2 * 20) * 5 / 2

    def test_more_than_are_planned_may_have_gone_on(self):
        rows = trial_rows(study(trial("000", "running", 20), trial("001", "running", 15), rungs=[10]))
        assert remaining(rows, concurrent=1, rungs=[10], reduction=3) == (10 + 15) * 4

    def test_one_trial_goes_to_the_end_by_itself(self):
        stopped = [trial(f"{i:03}", "stopped", 3) for i in range(3)]
        rows = trial_rows(study(trial("009", "running", 9), *stopped, rungs=[3, 10]))
        assert remaining(rows, concurrent=8, rungs=[3, 10], reduction=3) == 21 * 4  # 1 to the rung, 20 from there

    def test_the_dead_take_no_time(self):
        rows = self.rows(trial("000", "finished", 30), trial("001", "diverged", 2, error="the loss is not finite"))
        assert remaining(rows, concurrent=1) == 0

    def test_a_trial_that_finished_early_has_nothing_to_come(self):
        rows = self.rows(trial("000", "finished", 12), trial("001", "finished", 30))
        assert remaining(rows, concurrent=1) == 0

    def test_a_running_trial_has_until_its_rung(self):
        (row,) = trial_rows(study(trial("000", "running", 12), rungs=[10, 20]))
        assert row.left == 8 * 4.0
        (row,) = trial_rows(study(trial("000", "running", 25), rungs=[10, 20]))
        assert row.left == 5 * 4.0

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

    def test_a_log_says_after_a_minute_of_silence_how_far_an_epoch_is(self):
        screen, clock = log(), Clock()
        with TrainView(screen, clock=clock) as view:
            view.start(epochs=2, steps_per_epoch=100)
            for clock.now, step in ((30.0, 25), (60.0, 50), (90.0, 75)):
                view.step(step, 0.4321, 1234.5)
            clock.now = 120.0
            view.epoch(history(1)[0], True)
            clock.now = 150.0
            view.step(25, 0.4, 1234.5)
        lines = screen.file.getvalue().splitlines()
        assert lines[0] == "epoch 1/2  step  50/100  loss 0.4321  1,234 images/s  3:00 left"
        assert len(lines) == 2 and lines[1].startswith("epoch 1/2  train")

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
        lines = plain(screen).replace("\r", "\n").split("\n")
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
