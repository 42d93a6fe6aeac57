"""`python -m oneshot.prune`: remove the checkpoints that runs no longer need."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["prune"])
