"""`python -m oneshot.data`."""

from oneshot.cli.main import main

main(["data"])
