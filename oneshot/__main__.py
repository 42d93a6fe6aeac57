"""`python -m oneshot VERB`: the same as `oneshot VERB` and `python -m oneshot.VERB`."""

from oneshot.cli.main import main

main()
