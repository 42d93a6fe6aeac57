"""`python -m oneshot.repeat`: jobs trained with several seeds, each network judged once (`records`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["repeat"])
