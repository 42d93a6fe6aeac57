"""The classes to choose from: embedded once, asked many times.

Legend of shapes: C classes, D the length of an embedding, S the side in pixels of what a network sees.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from oneshot.answers import embeddings
from oneshot.base.errors import UserError, nearest, some
from oneshot.base.storage import Folder

_NAMED = 5  # classes that `repr` names
NAMED = 10  # classes that a warning names

# The mean of more embeddings is nearer to everything, and calibration was measured with equally many for each class.
UNEVEN = "classes have different numbers of images, and those with more are named too often: give each the same number"
FEWER = "classes with more images are named too often; these have fewer than {} different images: {}"


@dataclass(frozen=True)
class Classes:
    """The classes to choose from: their names, mean embeddings (C, D) and numbers of different images.

    `OneShot.classes` makes them. `pixels` (C, S, S) are what the network sees of the first image of each class, and
    `paths` the files of these images. `network` says which network made the embeddings, and `head` how it scores them.
    `warnings` says in sentences what is wrong with the images. `seen` holds the `mark` of every image, not only of the
    first; it is empty for classes from a file.
    """

    names: tuple[str, ...]
    z_CD: torch.Tensor
    counts: tuple[int, ...]
    pixels: torch.Tensor | None = None
    paths: tuple[str | None, ...] = ()
    network: Mapping[str, Any] | None = None
    head: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    seen: frozenset[bytes] = field(default=frozenset(), compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        least, most = min(self.counts), max(self.counts)
        each = f"of {least} to {most} images" if least < most else f"of {most} image{'s' * (most != 1)} each"
        named = ", ".join(map(str, self.names[:_NAMED])) + ", ..." * (len(self) > _NAMED)
        return f"Classes({len(self):,} {each}: {named})"

    @property
    def k_shot(self) -> int:
        """The number of images a class that calibration assumes: the least that any class has."""
        return min(self.counts)

    def merged(self, other: "Classes", *, replace: bool = False) -> "Classes":
        """These classes followed by those of `other`.

        With `replace`, a class that both have is taken from `other` and keeps its place here. Raises UserError if the
        same network did not embed both, and, without `replace`, for a name that both have."""
        if not isinstance(other, Classes):
            raise UserError(f"an object of type {type(other).__name__} is not a Classes; `OneShot.classes` makes one")
        if self.network is None or self.network != other.network:
            raise UserError("these classes were not embedded by the same network; make both with the one you ask")
        known = set(self.names)
        twice = [name for name in other.names if name in known]
        if twice and not replace:
            raise UserError(f"both have a class '{twice[0]}': leave one out with `without`, or pass replace=True")
        both = joined([self, other], warnings=tuple(dict.fromkeys(self.warnings + other.warnings)))
        places = {name: place for place, name in enumerate(both.names)}  # a key keeps its place, with the later value
        return both._at([*places.values()]) if twice else both

    def without(self, names: str | Iterable[str]) -> "Classes":
        """These classes except those with `names`. Raises UserError for a name that none has, and if none is left."""
        out, known = dict.fromkeys([names] if isinstance(names, str) else names), set(self.names)
        for name in out:
            if name not in known:
                raise UserError(f"there is no class '{name}' to leave out; {nearest(str(name), map(str, self.names))}")
        if len(out) == len(self):
            raise UserError("no class would be left; keep at least one")
        if not out:
            return self  # nothing is copied
        return self._at([place for place, name in enumerate(self.names) if name not in out])

    def _at(self, places: list[int]) -> "Classes":
        """The classes at these places."""
        return replace(
            self,
            names=tuple(self.names[place] for place in places),
            z_CD=self.z_CD[places],
            counts=tuple(self.counts[place] for place in places),
            pixels=None if self.pixels is None else self.pixels[places],
            paths=tuple(self.paths[place] for place in places) if self.paths else (),
            seen=frozenset(),  # it is not known which class each belongs to
        )

    def save(self, path: str | Path | Folder) -> None:
        """Write the classes to a file, a path or a URI that ends in .parquet, which `OneShot.classes` reads.

        The file is written whole or not at all, and replaces one that is there. Raises UserError, also if a name is not
        a string, and OSError."""
        if self.network is None or not all(isinstance(name, str) for name in self.names):
            raise UserError("only classes that `OneShot.classes` made and whose names are strings can be saved")
        with embeddings.writing(embeddings.target(path), embeddings.CLASSES, self.network, self.head) as rows:
            rows.add(**self.columns())
            rows.warnings += self.warnings

    def columns(self) -> dict[str, Any]:
        """The columns of the file that `save` writes."""
        return {
            "class": self.names, "images": self.counts, "path": self.paths, "pixels": self.pixels,
            "embedding": self.z_CD,
        }  # fmt: skip


def mark(pixels: torch.Tensor) -> bytes:
    """A digest of what a network sees of an image, uint8 (S, S) or (1, S, S): equal for equal pixels only."""
    return hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).digest()


def joined(parts: Sequence[Classes], *, warnings: Sequence[str]) -> Classes:
    """Join classes that were embedded in parts, of which there is at least one."""
    return Classes(
        names=tuple(name for part in parts for name in part.names),
        z_CD=torch.cat([part.z_CD.to(parts[0].z_CD.device) for part in parts]),
        counts=tuple(count for part in parts for count in part.counts),
        pixels=torch.cat([part.pixels for part in parts]),
        paths=tuple(path for part in parts for path in part.paths),
        network=parts[0].network,
        head=parts[0].head,
        warnings=tuple(warnings),
        seen=frozenset().union(*(part.seen for part in parts)),
    )


def uneven(names: Sequence[str], counts: Sequence[int], *, per_class: int | None = None) -> str:
    """A warning about the numbers of images of classes: which classes have fewer than `per_class`, or, if that is None,
    that the numbers differ. Empty if there is nothing to say."""
    if per_class is None:
        least, most = min(counts), max(counts)
        return f"{UNEVEN} (here {least} to {most})" if least < most else ""
    few = [name for name, count in zip(names, counts, strict=True) if count < per_class]
    return FEWER.format(per_class, listed(few)) if few else ""


def listed(names: Sequence[str]) -> str:
    """The names of classes as a warning shows them."""
    return some([*map(str, names)], NAMED)


def in_file(file: Folder, network: Mapping[str, Any]) -> Classes:
    """The classes in a file, in the order of its rows. Raises UserError as `embeddings.read` does."""
    columns, warnings = embeddings.read(file, network)
    return Classes(
        names=tuple(columns["class"]), z_CD=columns["embedding"], counts=tuple(columns["images"]),
        pixels=columns["pixels"], paths=tuple(columns["path"]), network=network, warnings=tuple(warnings),
    )  # fmt: skip
