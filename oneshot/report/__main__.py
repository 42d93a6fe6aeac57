"""`python -m oneshot.report`."""

from oneshot.cli.main import main

main(["report"])
