"""`python -m oneshot.verify`: whether two images show the same class (`answers`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["verify"])
