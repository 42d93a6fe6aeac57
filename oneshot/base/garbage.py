"""Python's search for garbage, which imports set off again and again though they leave none."""

import gc

# After so many new objects, not 700. Torch and Ray are 280,000 that stay: each search of them all takes 0.2 s, and the
# searches an eighth of the time of importing them. With 50,000 they are imported no sooner.
NEW = 10_000


def search_less() -> None:
    """For the rest of this process. What nobody refers to any more goes at once, as ever; what refers to itself, in a
    circle, waits longer."""
    gc.set_threshold(NEW, *gc.get_threshold()[1:])
