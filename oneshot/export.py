"""`python -m oneshot.export`: a network for programs without torch (`answers`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["export"])
