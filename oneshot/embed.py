"""`python -m oneshot.embed`: embeddings of images, or of a catalogue of classes, in a file (`answers`)."""

from oneshot.cli.main import main

if __name__ == "__main__":
    main(["embed"])
