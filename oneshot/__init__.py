"""oneshot: train, tune and judge Siamese one-shot image recognition at scale.

import oneshot
net = oneshot.load("runs/quick")
net.classify(query, {"alpha": [image], "beta": [image]})  # ranked classes, or none of these
net.verify(left_images, right_images)  # probabilities that each two show the same character
"""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import oneshot` stays free of torch.
    if name == "load":
        from oneshot.answers.artifact import load

        return load
    raise AttributeError(f"module 'oneshot' has no attribute '{name}'")
