"""`python -m oneshot.classify`: which class an image is of, or that it is none of these (`answers`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["classify"])
