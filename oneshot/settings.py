"""`python -m oneshot.settings`: which settings there are, and which a job sets (`base.meanings`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["settings"])
