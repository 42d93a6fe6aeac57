"""What other programs have to know of an exported network: images, probabilities and "none of these" without this one,
and an example by which a port can check itself."""

import io
import json
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from oneshot.answers import preprocess
from oneshot.answers.calibration import Calibration, doubt, flattered
from oneshot.base.markdown import table
from oneshot.data import clean
from oneshot.network.models import Siamese
from oneshot.screen.words import Words

CALIBRATION, EXAMPLE = "calibration.json", "example"  # a file and a folder beside the network
EXPECTED = "expected.json"  # in the latter
SHOWN_WAYS, SHOWN_SHOTS = (1, 3, 20, 1_000), (1, 3)  # whose limits the example has

_PAGE = (240, 180)  # pixels of an image of the example: no square, and larger than what a network sees
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
    """A value for each entry of "shots" -> that for so many images a class; beyond the first and last: theirs."""
    return np.interp(math.log(images), [math.log(shot["k_shot"]) for shot in found["shots"]], values)


def at(points, x):
    """On lines between points (x, limit) over the logarithm of x. The last goes on, and never falls."""
    xs, limits = [math.log(point[0]) for point in points], [point[1] for point in points]
    if math.log(x) <= xs[-1] or len(points) == 1:
        return np.interp(math.log(x), xs, limits)
    return limits[-1] + max(0, (limits[-1] - limits[-2]) / (xs[-1] - xs[-2])) * (math.log(x) - xs[-1])


def limit(classes, images, rate):
    """Of so many classes with so many images each; `rate`: one of found["rates"]."""
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
    """The logits of an image with each class -> whether the best may be named; else it is none of these."""
    if rate == 1:
        return True
    best = max(logits)
    second = sorted(logits)[-2] if len(logits) > 1 else best
    return best + found["lead"] * (best - second) >= limit(len(logits), images, rate)
'''


def recipe(seen: dict[str, Any], size: int) -> str:
    """What becomes of an image, in Markdown. `seen`: as `cards.seen` gives it."""
    if not (cleaning := seen.get("cleaning")):
        return f"Light ink on dark paper is to be inverted first. In full:\n\n```python\n{preprocess.RECIPE}```"
    side = cleaning["side"]
    steps = [
        *clean.steps(**cleaning),
        f"The input is {size} x {size} of that: in row i and column j the mean of the rows floor(i · {side} / {size})"
        f" to ceil((i + 1) · {side} / {size}) - 1 and of the columns likewise with j, rounded, divided by 255.",
    ]
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    needed = "It needs this package (`pip install --no-deps` does), NumPy, Pillow and pydantic, and no torch."
    return f"""In steps, for any language (halves are rounded to even, where nothing else is said):

{numbered}

In Python that is the following. {needed}

```python
{preprocess.CLEANED.format(**cleaning)}```"""


def probabilities(found: dict[str, Any] | None, words: Words) -> str:
    """What logits are worth, in Markdown; `found`: the calibration of a card."""
    if found is None:
        return "This network's probabilities are not calibrated: the sigmoid of a logit is what it was taught, no more."
    rows = []
    for shot in found["shots"]:
        pair = shot["pair"]
        chosen = (pair["slope"], pair["offset"], shot["classes"]["temperature"])
        rows.append((shot["k_shot"], *(f"{each:.6f}" for each in chosen)))
    made = table(("images a class", "slope", "offset", "temperature"), rows)
    text = (
        "Two images show the same class with the probability sigmoid(slope · logit + offset), where half of all pairs"
        " do. An image that is of one of several classes is of each with the probability softmax(logits / temperature)."
        " For other numbers of images a class take lines between these over the logarithm of the number, and beyond"
        f" them the nearest. Chosen on the {words.held}; the model card beside this folder says how good they are."
    )
    if why := flattered(found, held=words.held):
        text += f" {why[0].upper()}{why[1:]}."
    parts = [text, "", made, *_thresholds(found.get("match")), "", "## None of these", "", *_none_of_these(found)]
    return "\n".join(parts)


def _thresholds(found: dict[str, Any] | None) -> list[str]:
    """Logits above which two images are to be told the same; older cards have none."""
    if not found:
        return []
    rows = [(f"{rate:g}", f"{limit:.6f}") for rate, limit in zip(found["rates"], found["limits"], strict=True)]
    text = (
        "For few false matches call two images the same only where the logit is greater than that which so many of"
        f" {found['pairs']:,} pairs of two validation classes were above:"
    )
    return ["", text, "", table(("false match rate", "logit"), rows)]


def _none_of_these(found: dict[str, Any]) -> list[str]:
    """How an image of no class is refused, by the numbers of `calibration.json`."""
    rates = ", ".join(f"{rate:g}" for rate in found["rates"])
    why = doubt(found | {"measured_on": found["measured_on"] | {"taught": False}})  # that is said above
    return [
        f"An image is of one of the classes only where its evidence reaches a limit, which `{CALIBRATION}` gives for a"
        f" rate: the share of images of no class that may be named all the same, one of {rates}. (At rate 1 the best"
        " class is always named.)" + f" {why[:1].upper()}{why[1:]}." * bool(why),
        "",
        f"    evidence = best + lead · (best - second), with lead = {found['lead']:g}",
        "",
        "of the image's greatest and second logit; where there is one class, its logit alone. The limits of an entry of"
        " `shots` are for `k_shot` images a class (of unlike numbers the least, copies of an image aside), and in its"
        " `none` for `n_way` classes, one for each of `rates`.",
        "",
        "1. For a number of classes, take lines between the limits of each `n_way` over its logarithm.",
        "2. Beyond the last `n_way` the last line goes on, or the last limit does where that line falls.",
        "3. But where there is no such line (one `n_way` alone; or two, the first of them 1, and lead > 0), classes are"
        " taken for lots of the last `n_way`: the limit is that of the last `n_way` at the rate"
        " 1 - (1 - rate) ^ (n_way / classes), on lines over the logarithm of 1 / rate, that go on likewise.",
        "4. Between numbers of images a class take a line over their logarithm, beyond them the nearest.",
        "",
        f"In full:\n\n```python\n{LIMITS}```",
    ]


@torch.no_grad()
def example(net: Siamese, card: dict[str, Any]) -> dict[str, bytes]:
    """Two images as PNG, and in JSON what the network, on a CPU, makes of them: files by name."""
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
    """The float whose text is the shortest that is this number in 32 bits."""
    return float(str(number))


def _drawn(corners: tuple[tuple[float, float], ...], cleaning: dict[str, Any] | None) -> Image.Image:
    """A line through these corners, as the images are that a network is for: in colour where it reads colours."""
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
