"""Python's garbage collection, which imports trigger again and again although they leave no garbage."""

import gc

# New objects that trigger a collection, instead of 700. Torch and Ray make 280,000 objects that stay: collecting over
# all of them takes 0.2 s, and collections are an eighth of the import time. 50,000 makes the imports no faster.
NEW = 10_000


def search_less() -> None:
    """Collect garbage less often for the rest of this process. Objects that nothing refers to still go at once; only
    reference cycles wait longer."""
    gc.set_threshold(NEW, *gc.get_threshold()[1:])
