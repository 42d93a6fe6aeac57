"""What other programs need to know to use an exported network without this package: how images are prepared, what
probabilities and "none of these" are computed from, and an example by which a port can check itself."""

import io
import json
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from oneshot.answers import doubts, preprocess
from oneshot.answers.calibration import Calibration
from oneshot.base.markdown import table
from oneshot.data import clean
from oneshot.network.models import Siamese
from oneshot.screen.words import Words

CALIBRATION, EXAMPLE = "calibration.json", "example"  # a file and a folder beside the exported network
EXPECTED = "expected.json"  # in the latter
SHOWN_WAYS, SHOWN_SHOTS = (1, 3, 20, 1_000), (1, 3)  # the numbers of classes and images whose limits the example has

_PAGE = (240, 180)  # pixels of an image of the example: not square, and larger than what a network sees
_FIGURES = {  # the corners of a line, as shares of the page
    "one.png": ((0.2, 0.25), (0.5, 0.8), (0.75, 0.2), (0.75, 0.7), (0.35, 0.35)),
    "other.png": ((0.25, 0.75), (0.25, 0.2), (0.7, 0.3), (0.4, 0.5), (0.8, 0.8)),
}

LIMITS = '''\
import json
import math

import numpy as np

with open("calibration.json") as file:
    found = json.load(file)


def by_images(values, images):
    """The value for so many images per class, from one for each entry of "shots"; beyond these, the nearest."""
    return np.interp(math.log(images), [math.log(shot["k_shot"]) for shot in found["shots"]], values)


def at(points, x):
    """The limit at x, on lines between points (x, limit) over log x. The last line goes on, but never falls."""
    xs, limits = [math.log(point[0]) for point in points], [point[1] for point in points]
    if math.log(x) <= xs[-1] or len(points) == 1:
        return np.interp(math.log(x), xs, limits)
    return limits[-1] + max(0, (limits[-1] - limits[-2]) / (xs[-1] - xs[-2])) * (math.log(x) - xs[-1])


def limit(classes, images, rate):
    """The limit for so many classes with so many images each; `rate`: one of found["rates"]."""
    rates, limits = found["rates"], []
    for shot in found["shots"]:
        cells = shot["none"]
        last = cells[-1]
        if classes > last["n_way"] and (len(cells) == 1 or (found["lead"] > 0 and cells[-2]["n_way"] == 1)):
            lower = 1 - (1 - rate) ** (last["n_way"] / classes)
            points = sorted((1 / each, value) for each, value in zip(rates, last["limits"]))
            limits.append(at(points, 1 / lower))
        else:
            points = [(cell["n_way"], cell["limits"][rates.index(rate)]) for cell in cells]
            limits.append(at(points, classes))
    return by_images(limits, images)


def known(logits, images, rate):
    """Whether the best class may be named, by the image's logits with each class; else it is none of these."""
    if rate == 1:
        return True
    best = max(logits)
    second = sorted(logits)[-2] if len(logits) > 1 else best
    return best + found["lead"] * (best - second) >= limit(len(logits), images, rate)
'''


def recipe(seen: dict[str, Any], size: int) -> str:
    """How an image is prepared, in Markdown. `seen` is what `cards.seen` returns."""
    if not (cleaning := seen.get("cleaning")):
        return f"Invert light ink on dark paper first. In full:\n\n```python\n{preprocess.RECIPE}```"
    side = cleaning["side"]
    steps = [
        *clean.steps(**cleaning),
        f"The input is {size} x {size} of that: in row i and column j the mean over the rows floor(i · {side} / {size})"
        f" to ceil((i + 1) · {side} / {size}) - 1 and likewise over the columns with j, rounded, divided by 255.",
    ]
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    needed = "It needs this package (`pip install --no-deps` is enough), NumPy, Pillow and pydantic, but not torch."
    return f"""In steps, for any language (halves are rounded to even unless stated otherwise):

{numbered}

The same in Python. {needed}

```python
{preprocess.CLEANED.format(**cleaning)}```"""


def probabilities(found: dict[str, Any] | None, words: Words) -> str:
    """How logits become probabilities, in Markdown. `found` is the calibration of a card."""
    if found is None:
        return "This network's probabilities are not calibrated: the sigmoid of a logit is only what it was trained on."
    rows = []
    for shot in found["shots"]:
        pair = shot["pair"]
        chosen = (pair["slope"], pair["offset"], shot["classes"]["temperature"])
        rows.append((shot["k_shot"], *(f"{each:.6f}" for each in chosen)))
    made = table(("images a class", "slope", "offset", "temperature"), rows)
    text = (
        "Two images show the same class with the probability sigmoid(slope · logit + offset), if half of all pairs do."
        " An image of one of several classes is of each with the probability softmax(logits / temperature). For other"
        " numbers of images a class, interpolate linearly over the logarithm of the number, and beyond these take the"
        f" nearest. Chosen on the {words.held}; the model card beside this folder says how good they are."
    )
    if why := doubts.flattered(found, words):
        text += f" {why[0].upper()}{why[1:]}."
    parts = [text, "", made, *_thresholds(found.get("match")), "", "## None of these", "", *_none_of_these(found)]
    return "\n".join(parts)


def _thresholds(found: dict[str, Any] | None) -> list[str]:
    """Markdown lines with the logits above which to call two images the same; older cards have none."""
    if not found:
        return []
    rows = [(f"{rate:g}", f"{limit:.6f}") for rate, limit in zip(found["rates"], found["limits"], strict=True)]
    text = (
        "For few false matches, call two images the same only if their logit is above a limit. The rate is the"
        f" share of {found['pairs']:,} pairs of two validation classes that were above it:"
    )
    return ["", text, "", table(("false match rate", "logit"), rows)]


def _none_of_these(found: dict[str, Any]) -> list[str]:
    """How an image of no class is refused, by the numbers of `calibration.json`."""
    rates = ", ".join(f"{rate:g}" for rate in found["rates"])
    why = doubts.limits(found)
    return [
        f"An image is of one of the classes only if its evidence reaches a limit, which `{CALIBRATION}` gives for a"
        f" rate: the share of images of no class that are named all the same, one of {rates}. (At rate 1 the best"
        " class is always named.)" + f" {why[:1].upper()}{why[1:]}." * bool(why),
        "",
        f"    evidence = best + lead · (best - second), with lead = {found['lead']:g}",
        "",
        "where best and second are the image's two greatest logits; with a single class, the evidence is its logit. The"
        " limits of an entry of `shots` are for `k_shot` images a class (if the numbers differ, the least; copies of an"
        " image do not count), and those in its `none` for `n_way` classes, one for each of `rates`.",
        "",
        "1. For a number of classes, interpolate linearly between the limits of each `n_way` over its logarithm.",
        "2. Beyond the last `n_way`, continue the last line, or keep the last limit if that line falls.",
        "3. But if there is no such line (a single `n_way`; or two, the first of them 1, and lead > 0), the classes are"
        " treated as lots of the last `n_way`: the limit is that of the last `n_way` at the rate"
        " 1 - (1 - rate) ^ (n_way / classes), interpolated over the logarithm of 1 / rate and continued likewise.",
        "4. Between numbers of images a class, interpolate linearly over their logarithm; beyond them, the nearest.",
        "",
        f"In full:\n\n```python\n{LIMITS}```",
    ]


@torch.no_grad()
def example(net: Siamese, card: dict[str, Any]) -> dict[str, bytes]:
    """Files by name: two images as PNG, and JSON with what the network computes from them on a CPU."""
    cleaning, found = card.get("preprocessing", {}).get("cleaning"), card.get("calibration")
    files = {name: _png(_drawn(corners, cleaning)) for name, corners in _FIGURES.items()}
    images = [Image.open(io.BytesIO(data)) for data in files.values()]
    pixels_2SS = torch.cat([preprocess.fit(image, net.size, cleaning) for image in images])
    z_2D = net.embed(pixels_2SS[:, None].float().div_(255))
    (logit,) = net.score(*z_2D.chunk(2)).tolist()
    expected = {
        "images": list(files), "inputs": pixels_2SS.tolist(), "logit": logit,
        "embeddings": [[*map(_short, row)] for row in z_2D.numpy()],
    }  # fmt: skip
    if found:
        worth = Calibration(found)
        expected["probability"] = float(worth.pair(np.array(logit)))
        expected["limits"] = [
            {"n_way": ways, "k_shot": k, "rate": rate, "limit": worth.limit(ways, k_shot=k, rate=rate)}
            for ways in SHOWN_WAYS for k in SHOWN_SHOTS for rate in found["rates"]
        ]  # fmt: skip
    return files | {EXPECTED: json.dumps(expected, separators=(",", ":")).encode()}


def _short(number: np.float32) -> float:
    """The float whose text is the shortest that gives this number in 32 bits."""
    return float(str(number))


def _drawn(corners: tuple[tuple[float, float], ...], cleaning: dict[str, Any] | None) -> Image.Image:
    """A line through these corners, drawn like the images that a network is for: in colour if it takes colours."""
    polarity = cleaning["polarity"] if cleaning else "dark"
    page = Image.new("RGB", _PAGE, (222, 216, 200))
    if polarity == "photo":
        shade = Image.linear_gradient("L")
        page = Image.merge("RGB", [each.resize(_PAGE) for each in (shade, ImageOps.mirror(shade.rotate(90)), shade)])
    points = [(x * _PAGE[0], y * _PAGE[1]) for x, y in corners]
    ImageDraw.Draw(page).line(points, fill=(38, 42, 74), width=12, joint="curve")
    page = ImageOps.invert(page) if polarity == "light" else page
    return page if cleaning else page.convert("L")


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
