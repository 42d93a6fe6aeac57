"""`python -m oneshot VERB`: the same as `oneshot VERB` and `python -m oneshot.VERB`."""

from oneshot.cli import main

main()
