"""oneshot: train, tune and evaluate Siamese networks for one-shot image recognition at scale.

import oneshot
net = oneshot.load("runs/quick")
net.classify(query, {"alpha": [image], "beta": [image]})  # ranked classes, or none of these
net.verify(left_images, right_images)  # probabilities that each two show the same character
net.classes("classes")  # a catalogue embedded once, of a folder or a file, to be asked many times
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneshot.answers.artifact import OneShot, load
    from oneshot.answers.embeddings import Classes
    from oneshot.answers.ranking import Ranking
    from oneshot.base.errors import UserError

    __version__: str

__all__ = ["Classes", "OneShot", "Ranking", "UserError", "load"]

# Where each lies. Loaded when asked for: `import oneshot` stays free of torch.
_LIES = {
    "Classes": "oneshot.answers.embeddings",
    "OneShot": "oneshot.answers.artifact",
    "Ranking": "oneshot.answers.ranking",
    "UserError": "oneshot.base.errors",
    "load": "oneshot.answers.artifact",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # to look it up takes longer than all the rest here
        return importlib.import_module("oneshot.base.environment").version("oneshot")
    if name in _LIES:
        return getattr(importlib.import_module(_LIES[name]), name)
    raise AttributeError(f"module 'oneshot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
