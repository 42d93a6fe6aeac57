"""`python -m oneshot.report`."""

from oneshot.cli import main

main(["report"])
