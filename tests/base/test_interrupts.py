"""An interrupt ends a program whatever code it meets, and further signals do not disturb how the program ends."""

import subprocess
import sys

import pytest
from command import ROOT, environment

BEGIN = """
import os, signal, sys, time
from oneshot.base import interrupts

def strike(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(0.01)

signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.AGAIN = 0.1
interrupts.heed()
"""


def program(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", BEGIN + text], cwd=ROOT, env=environment(), text=True, capture_output=True, timeout=60
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_that_somebody_drops_comes_again(number: str, times: int) -> None:
    done = program(f"""
interrupts.AGAIN = 1.0  # not before it is said that it was dropped
try:
    for _ in range({times}):
        try:
            strike(signal.{number})
            time.sleep(30)
        except BaseException:
            pass
    print("dropped", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    interrupts.heed_no_more()
    print("ended")
""")
    assert done.stdout.split() == ["dropped", "ended"], done


def test_what_ends_is_not_disturbed_by_further_signals_or_by_the_same_one_again() -> None:
    done = program("""
import contextlib

@contextlib.contextmanager
def tidied():
    try:
        yield
    finally:
        for _ in range(5):
            time.sleep(0.05)
            strike()
            try:
                raise ValueError("what tidies up has errors of its own")
            except ValueError:
                strike(signal.SIGTERM)
        print("tidied")

try:
    with tidied():
        strike()
except KeyboardInterrupt:
    strike()
    interrupts.heed_no_more()
    strike()
    print("ended")
""")
    assert done.stdout.split() == ["tidied", "ended"], done


def test_patience_with_what_ends_has_an_end() -> None:
    done = program("""
interrupts.PATIENCE = 0.5
try:
    strike()
finally:
    strike()
    print("goes on", flush=True)
    time.sleep(1)
    strike()
    print("not reached")
""")
    assert done.stdout.splitlines() == ["goes on"] and "KeyboardInterrupt" in done.stderr, done


def test_an_interrupt_at_the_prompt_of_a_debugger_is_the_debuggers() -> None:
    done = program("""
sys.settrace(lambda *event: None)  # as a debugger at its prompt
try:
    strike()
except KeyboardInterrupt:
    print("prompt")
time.sleep(0.5)
print("goes on")
""")
    assert done.stdout.splitlines() == ["prompt", "goes on"], done


def test_who_is_started_with_interrupts_ignored_goes_on_ignoring_them() -> None:
    done = program("""
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup` and a shell's background do
interrupts.heed()
strike()
print("goes on")
""")
    assert done.stdout.splitlines() == ["goes on"], done
