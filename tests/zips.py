"""Generated zip archives: with any members, and with drawings laid out as in Omniglot's archives."""

import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from oneshot.data import glyphs
from oneshot.data.archives import Limits
from oneshot.data.png import encode

SMALL = Limits(archive=100_000, members=5, member=1000, total=3000)
MEMBERS = {f"images_x/Greek/character01/0001_{drawer:02d}.png": bytes([drawer]) * 300 for drawer in range(1, 21)}


def zip_of(path: Path, members: dict[str, bytes], *, mode: int = 0, compress: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members; `mode` is the Unix file type and permissions of all of them."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compress
            archive.writestr(info, data)
    return path


@cache
def alphabet(number: int) -> np.ndarray:
    return glyphs.draw_alphabet(5, number, drawers=4, characters=(20, 20))


def made_archives() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The members of an evaluation archive of two alphabets by four drawers, and of an archive of two runs on its
    second alphabet."""
    evaluation, runs = {}, {}
    for number, name in enumerate(("Aleph", "Beth")):
        for (character, drawer), _ in np.ndenumerate(alphabet(number)[:, :, 0, 0]):
            path = f"images_evaluation/{name}/character{character + 1:02d}/{number}{character:03d}_{drawer + 1:02d}.png"
            evaluation[path] = encode(alphabet(number)[character, drawer])
    for run, (asked, shown) in (("run01", (0, 1)), ("run02", (3, 2))):
        lines = []
        for item, character in enumerate(np.random.default_rng(asked).permutation(20)):
            query, support = f"{run}/test/item{item + 1:02d}.png", f"{run}/training/class{character + 1:02d}.png"
            runs[query], runs[support] = (encode(alphabet(1)[character, drawer]) for drawer in (asked, shown))
            lines.append(f"{query} {support}\n")
        runs[f"{run}/class_labels.txt"] = "".join(lines).encode()
    return evaluation, runs
