"""`python -m oneshot.classify`: which class an image belongs to, or that it belongs to none (`answers`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["classify"])
