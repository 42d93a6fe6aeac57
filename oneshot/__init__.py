"""oneshot: train, tune and evaluate Siamese networks for one-shot image recognition at scale.

import oneshot
net = oneshot.load("runs/quick")
net.classify(query, {"alpha": [image], "beta": [image]})  # the ranked classes, or none of these
net.verify(left_images, right_images)  # for each pair, the probability of the same character
net.classes("classes")  # a catalogue, from a folder or a file, embedded once for many queries
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneshot.answers.classes import Classes
    from oneshot.answers.ranking import Ranking
    from oneshot.answers.recogniser import OneShot, load
    from oneshot.base.errors import UserError

    __version__: str

__all__ = ["Classes", "OneShot", "Ranking", "UserError", "load"]

# The module of each name, loaded on first use: `import oneshot` stays free of torch.
_LIES = {
    "Classes": "oneshot.answers.classes",
    "OneShot": "oneshot.answers.recogniser",
    "Ranking": "oneshot.answers.ranking",
    "UserError": "oneshot.base.errors",
    "load": "oneshot.answers.recogniser",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # looking it up takes longer than the rest of this module
        return importlib.import_module("oneshot.base.environment").version("oneshot")
    if name in _LIES:
        return getattr(importlib.import_module(_LIES[name]), name)
    raise AttributeError(f"module 'oneshot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
