"""`python -m oneshot.settings`: what there is to set, and what a job sets (`base.meanings`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["settings"])
