"""`python -m oneshot.train`: one training, in this process or by Ray Train (`training`, `cluster`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["train"])
