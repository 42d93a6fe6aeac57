"""`python -m oneshot.tune`: a search, and the judgement of its best network (`search`, `evaluation`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["tune"])
