"""`python -m oneshot.bench`."""

from oneshot.cli.main import main

main(["bench"])
