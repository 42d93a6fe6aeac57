"""`python -m oneshot.evaluate`: a network judged by one-shot trials (`evaluation`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["evaluate"])
