"""The model card, `README.md` of a network's folder, made from records; with the Hugging Face hub's front matter."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from oneshot.answers import doubts, matching
from oneshot.answers.calibration import RATE, Calibration
from oneshot.base.environment import hardware
from oneshot.base.markdown import table
from oneshot.base.storage import Folder
from oneshot.data import glyphs
from oneshot.data.splits import teaches_all
from oneshot.evaluation.judgement import RESULT, result_of
from oneshot.run import cards
from oneshot.run.cards import CARD, WEIGHTS
from oneshot.screen.console import count, interval, percent
from oneshot.screen.results import positions
from oneshot.screen.words import OF_OWN, Words, words_for, words_of

README = "README.md"
_DATA = {
    "omniglot": (
        "[Omniglot](https://github.com/brendenlake/omniglot) by Brenden Lake, MIT licence: 1,623 characters of 50"
        " alphabets, each drawn by 20 people. Lake, Salakhutdinov & Tenenbaum, *Science* 350 (2015)."
    ),
    "glyphs": "Alphabets that the program drew itself, each character by simulated drawers: nobody's data.",
}
_WHERE = {  # the trials of a calibration, by their protocol
    "within": "that are each inside one of the validation alphabets",
    "between": "between the validation alphabets",
    None: "on the validation alphabets",
}
_WHERE_OF_OWN = {
    "within": "that are each inside one group of the validation classes",
    "between": "between the validation classes",
    None: "on the validation classes",
}
_OWN = "images of whoever trained this network; their licence decides what may be done with it."


def write(run: Folder) -> None:
    """Write the card of a run's `best/`, with the figures of the run's result if that is of this network.

    Raises UserError if a record is damaged."""
    best = run / "best"
    best.write(README, render(cards.read(best), result_of(run)).encode(errors="backslashreplace"))


def render(card: dict[str, Any], result: dict[str, Any] | None) -> str:
    """The card of a network from its `model.json` and, once it was judged, its `result.json`."""
    data, start = card["provenance"]["settings"].get("data", {}), card["provenance"].get("start", [])
    dataset, split = str(data.get("dataset", "unknown")), data.get("split")
    kinds = list(dict.fromkeys([_kind(dataset), *(_kind(_taught(each)[0]) for each in start)]))
    name, size, words = card["architecture"], card["preprocessing"]["size"], words_for(card)
    parts = [
        _front_matter(kinds, name, result),
        f"# {name} at {size} pixels: one-shot recognition",
        f"A Siamese network: from **one** example of each class it tells apart classes that it has never seen. Trained"
        f" on `{dataset}` with oneshot; the network is in `{WEIGHTS}`, all that is known about it in `{CARD}`.",
        "## Use",
        _use(cards.seen(card["preprocessing"])) + _views(card, words),
        "## Figures",
        _figures(result, words),
        "## What its probabilities are worth",
        _calibration(card.get("calibration"), words, seen=teaches_all(str(split))),
        "## Training",
        _training(card["provenance"], card.get("calibration"), words),
        "## Data and licence",
        _licence(kinds),
        "## Limits",
        _limits(kinds, card.get("calibration"), words),
    ]
    return "\n\n".join(parts) + "\n"


def keep_result(folder: Folder, result: dict[str, Any]) -> None:
    """Keep the result of a run's network, and write its card again, now with the figures."""
    folder.write_json(RESULT, result)
    write(folder)


def _kind(dataset: str) -> str:
    """A data set by what decides its licence: a key of `_DATA`, or the name of one's own data set."""
    return "glyphs" if glyphs.numbers_of(dataset) else dataset


def _taught(origin: Mapping[str, Any]) -> tuple[str, str]:
    """Data set and split of a network that another started from."""
    data = origin["settings"].get("data", {})
    return str(data.get("dataset", "unknown")), str(data.get("split", "unknown"))


def _front_matter(kinds: Sequence[str], name: str, result: dict[str, Any] | None) -> str:
    """The YAML front matter. Its values are JSON, so that no dataset's name can break it."""
    lines = {
        "license": "mit" if all(kind in _DATA for kind in kinds) else "unknown",
        "library_name": "oneshot",
        "pipeline_tag": "image-classification",
        "tags": ["one-shot", "few-shot", "siamese", "safetensors", name],
        "datasets": list(dict.fromkeys(kind.partition("@")[0] for kind in kinds)),
        "metrics": ["accuracy"],
    }
    parts = ["---", *(f"{key}: {_json(value)}" for key, value in lines.items())]
    if result:
        parts += ["model-index:", f"- name: {_json(f'oneshot {name}')}", "  results:"]
        for protocol, each in result["protocols"].items():
            task = {"type": "image-classification", "name": f"{each['n_way']}-way {each['k_shot']}-shot"}
            dataset = {"type": kinds[0], "name": f"{result['dataset']}, {protocol}", "split": "test"}
            parts += [
                f"  - task: {_json(task)}",
                f"    dataset: {_json(dataset)}",
                f"    metrics: {_json([{'type': 'accuracy', 'value': each['accuracy']}])}",
            ]
    return "\n".join([*parts, "---"])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _use(preprocessing: dict[str, Any]) -> str:
    return f"""\
```python
import oneshot

net = oneshot.load("path/of/this/folder")
net.classify(query, {{"alpha": [image, image], "beta": [image]}})  # ranked classes, or none of these
net.verify(image_a, image_b)  # the probability that both show the same class
```

Images are PIL images or uint8 arrays of any size. Before the network sees them: ink is
{preprocessing["ink"]}; they are {preprocessing["fit"]}."""


def _views(card: dict[str, Any], words: Words) -> str:
    if not (seen := positions(card.get("views", 1))):
        return ""
    worth = ""
    if found := (card.get("calibration") or {}).get("views"):
        worth = (
            f", which gets {percent(found['accuracy'])} of the trials in {words.held} right;"
            f" one view gets {percent(found['one'])}"
        )
    return f" Its score of two images is {seen}{worth}."


def _figures(result: dict[str, Any] | None, words: Words) -> str:
    if result is None:
        return f"Not judged yet: `python -m oneshot.evaluate RUN` does it, and the {words.test} are touched once."
    words = words_of(result["split"])  # the split that judged may not be that of the training
    baseline = any("pixels" in each for each in result["protocols"].values())  # older results have none
    heads = ["protocol", "task", "trials", "accuracy", "95 % interval", *["by pixels alone"] * baseline]
    rows = []
    for name, each in result["protocols"].items():
        task, reach = f"{each['n_way']}-way {each['k_shot']}-shot", interval(*each["interval"])
        alone = [percent(each.get("pixels"))] * baseline
        rows.append((f"`{name}`", task, count(each["trials"]), percent(each["accuracy"]), reach, *alone))
    overlap = result.get("overlap")
    about = (
        f"On the {words.test} of {result['dataset']}, split `{result['split']}`"
        f"{f': {overlap}' if overlap else ', which neither training nor search has seen'}. Figures of different"
        f" protocols are not comparable: `within` asks about one {words.group}, `between` mixes them, which is easier."
    )
    if baseline:
        about += " By pixels alone, on the same trials: the class of the most similar blurred image."
    return f"{about}\n\n{table(heads, rows)}"


def _calibration(found: dict[str, Any] | None, words: Words, *, seen: bool) -> str:
    if found is None:
        return "They are not calibrated: use them as a ranking, and choose your own limit."
    about = found["measured_on"]
    heads = ["images a class", "pairs: error before, after", "classes: error before, after"]
    heads += ["of no class: accepted", "of one: refused"]
    rows = []
    for shot in found["shots"]:
        errors = (
            f"{percent(shot[key]['ece_before'])}, {percent(shot[key]['ece_after'])}" for key in ("pair", "classes")
        )
        last = shot["none"][-1]
        rows.append((shot["k_shot"], *errors, percent(last["false_accept"]), percent(last["refused"])))
    halved = words.groups if about["alphabets"] > 1 else "trials"
    text = (
        f"Chosen on {count(about['trials'])} trials {_where(about, words)}. Each figure is measured on one half"
        f" of the {halved} with what was chosen on the other half. Error: the expected calibration error. Last columns:"
        f" the share of images of none of {last['n_way']} classes that were taken for one (target {RATE:.0%}), and of"
        ' images of a class that were called "none of these".'
    )
    seen = seen or about.get("taught", False)  # older records do not say it themselves
    if why := doubts.false_accept(found | {"measured_on": about | {"taught": seen}}, words):
        text += f" {why[0].upper()}{why[1:]}."
    return "\n".join([text, "", table(heads, rows), *_match(found)])


def _where(about: Mapping[str, Any], words: Words) -> str:
    """On which trials something was measured, and how many alphabets, characters and drawings these are of."""
    alphabets, characters, drawings = (count(about[key]) for key in ("alphabets", "characters", "drawings"))
    protocol = about.get("protocol")
    if words is OF_OWN:
        groups = f"{alphabets} group{'' if about['alphabets'] == 1 else 's'}"
        return f"{_WHERE_OF_OWN[protocol]}, of which there are {characters} in {groups} ({drawings} images)"
    return f"{_WHERE[protocol]}, of which there are {alphabets} ({characters} characters, {drawings} drawings)"


def _match(found: dict[str, Any]) -> list[str]:
    """The table of thresholds for same or different; older records have none."""
    if not (known := found.get("match")):
        return []
    rows = []
    for rate, *errors in zip(known["rates"], known["false_match"], known["false_non_match"], strict=True):
        shares = matching.limit(Calibration(found), rate), *errors
        rows.append((f"{rate:g}", *(f"{100 * share:.2f} %" for share in shares)))
    text = (
        f"`verify --false-match` takes the threshold that this share of {count(known['pairs'])} pairs of two classes,"
        " on the same trials, was above. The errors, of different pairs and of same ones, are again measured on one"
        " half with the thresholds of the other."
    )
    return ["", text, "", table(("`--false-match`", "same above", "false matches", "false non-matches"), rows)]


def _training(provenance: dict[str, Any], calibration: dict[str, Any] | None, words: Words) -> str:
    lines = []
    best = provenance.get("best_trial")
    if best:
        chosen = ", ".join(f"{key} {value}" for key, value in best["settings"].items())
        trial = f"trial {best['id']} of a search ({chosen})" if best["id"] else "one training"
        lines.append(f"From {trial}: epoch {best['epoch']}, validation loss {best['val_loss']:.4f}.")
    for number, each in enumerate(provenance.get("start", [])):
        dataset, split = _taught(each)
        who = "That one started from another" if number else "It started from the weights of another network"
        lines.append(f"{who}, trained on `{dataset}`, split `{split}` (sha256 `{each['sha256']}`).")
    if calibration and calibration.get("start"):
        lines.append(f"Of the trials in {words.held} {worth(calibration)}.")
    if untaught := provenance.get("untaught"):
        lines.append(f"{untaught[0].upper()}{untaught[1:]}.")
    where = provenance.get("environment")
    if where:
        lines.append(f"Made by commit `{where['commit']}` on {hardware(where)}.")
    lines.append(f"All settings are in `{CARD}` under `provenance`.")
    return " ".join(lines)


def _licence(kinds: Sequence[str]) -> str:
    """The licences of the data it was trained on, those of the networks it started from included."""
    said = [_DATA.get(kind, f"`{kind}`: {_OWN}") for kind in kinds]
    return " ".join([*said, "The network: MIT licence."] if all(kind in _DATA for kind in kinds) else said)


def worth(calibration: Mapping[str, Any]) -> str:
    """What a training that started from another network has gained, by the calibration's `start`."""
    tuned, taught = calibration["start"], calibration["measured_on"].get("taught")
    said = f"it gets {percent(tuned['accuracy'])} right; the network it started from got {percent(tuned['before'])}"
    how = "may have been" if taught == "perhaps" else "was"
    return said + f" (the validation data {how} trained on: these figures are too good)" * bool(taught)


def _limits(kinds: Sequence[str], calibration: dict[str, Any] | None, words: Words) -> str:
    figures = "dark lines on light paper, one figure that fills the picture"
    drawn = {"omniglot": f"drawings of characters: {figures}", "glyphs": f"generated drawings: {figures}"}
    seen = [drawn.get(kind, f"the images of `{kind}`") for kind in kinds]
    lines = [
        f"- It has seen {'; before, '.join(seen)}. On anything else its accuracy is unknown until it is measured.",
        "- A turned or mirrored figure may be another class to it.",
        "- Some classes differ less than two people's handwriting does; no image tells them apart.",
        f"- Its figures are averages over {words.groups}. Only a test on your images tells which of yours are harder.",
    ]
    if calibration:
        lines.append(
            f"- Its probabilities hold for images like those of the {words.held}. `verify` assumes that half of"
            " all pairs are the same; if few are, more of those that it calls the same are different."
        )
    lines.append("- It is not evidence of who wrote or signed something.")
    return "\n".join(lines)
