"""`python -m oneshot.prune`: checkpoints that runs need no more, removed."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["prune"])
