"""`python -m oneshot.record`: the record of a study, and what README shows of all records (`records`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["record"])
