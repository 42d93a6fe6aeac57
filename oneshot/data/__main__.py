"""`python -m oneshot.data`."""

from oneshot.cli import main

main(["data"])
