"""Generated alphabets: data for machines without Omniglot and for tests, and further alphabets to train on.

Each alphabet has a style and invents its characters in it (`strokes`); simulated people draw every character
(`pen`). So characters of one alphabet resemble each other, and drawings of one character differ in shape, slant, size,
place and pen. Alphabet k is a function of the seed and k alone, whatever is generated before it. The data are never
presented as Omniglot: the name that people see is `glyphs (generated)`.

The difficulty is matched to Omniglot's. The Modified Hausdorff distance, which learns nothing, gets 60 % of 20-way
one-shot trials within the 20 evaluation alphabets right and 67 % of those across them (Omniglot: 59 % and 71 %; 1,600
queries each).
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import pen, png, store, strokes
from oneshot.data.drawings import Description, Drawings, FixedTrials, Row, look

NAME = "glyphs (generated)"
VERSION = 1  # version of the drawings that a seed gives: raise it with every change to them
ALPHABETS = 50
DRAWERS = 20
CHARACTERS = (20, 45)  # fewest and most in an alphabet, as in Omniglot
_CALLED = re.compile(r"glyphs(?:-(\d{1,4}))?(?:-seed(\d{1,9}))?")
Progress = Callable[[int, int], None]  # alphabets drawn, alphabets in all

_ALIKE = 0.84  # a reader takes two characters for one if their blurred pictures correlate more
_INK = (40.0, 380.0)  # pixels of line in a character: less is a dot, more is a tangle
_EXTRA_SEED = 2**32  # above the seeds of data sets, which have nine digits at most
_ATTEMPTS = 200  # attempts at one character before its alphabet is taken to be exhausted


def build(
    folder: Folder,
    *,
    alphabets: int = ALPHABETS,
    drawers: int = DRAWERS,
    characters: tuple[int, int] = CHARACTERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write trials.parquet, then drawings.parquet, of generated alphabets into `folder`.

    Raises UserError if the numbers are out of range or the folder cannot be written.
    """
    _check(alphabets, drawers, characters, seed)
    drawn = _draw(alphabets, drawers, characters, seed, progress or (lambda done, total: None))
    names = [_name(number) for number in range(alphabets)]
    chosen = _trial_alphabets(alphabets)
    sizes = [_size(seed, number, characters) for number in range(alphabets)]
    store.write_trials(folder, fixed_trials(sizes, drawers=drawers, chosen=chosen, seed=seed))
    store.write(
        folder,
        drawn,
        name=NAME,
        source=_source(seed),
        digests={},
        trial_alphabets=[names[number] for number in chosen],
    )


def numbers_of(dataset: str) -> tuple[int, int] | None:
    """The number of alphabets of a data set of this name, and their seed: (80, 7) for "glyphs-80-seed7".

    Numbers that the name lacks take their defaults. None for a name of other data."""
    found = _CALLED.fullmatch(dataset)
    return (int(found[1] or ALPHABETS), int(found[2] or 0)) if found else None


def described(alphabets: int, seed: int) -> Description:
    """Describe the data set that `build` makes, without drawing it. Raises UserError for numbers out of range."""
    _check(alphabets, DRAWERS, CHARACTERS, seed)
    sizes = {_name(number): _size(seed, number, CHARACTERS) for number in range(alphabets)}
    return Description(
        name=NAME, source=_source(seed), digests={}, height=pen.SIZE, width=pen.SIZE, bits=1,
        trial_alphabets=tuple(_name(number) for number in _trial_alphabets(alphabets)),
        characters={name: tuple(_character(n) for n in range(size)) for name, size in sizes.items()},
        drawings={name: size * DRAWERS for name, size in sizes.items()},
        drawers={name: tuple(range(1, DRAWERS + 1)) for name in sizes},
        origin={_name(number): _origin(number, alphabets) for number in range(alphabets)},
    )  # fmt: skip


def _source(seed: int) -> str:
    return f"generated, version {VERSION}, seed {seed}"


def _character(number: int) -> str:
    return f"character{number + 1:02d}"


def _origin(number: int, alphabets: int) -> str:
    return "background" if number < _background(alphabets) else "evaluation"


def _check(alphabets: int, drawers: int, characters: tuple[int, int], seed: int) -> None:
    if alphabets < 4:
        raise UserError(f"{alphabets} alphabets are too few for a split; ask for 4 or more, as in glyphs-4")
    if not 2 <= drawers <= 100:
        raise UserError(f"{drawers} drawers cannot be simulated; take 2 to 100")
    if not 2 <= characters[0] <= characters[1] <= 60:
        raise UserError(f"an alphabet cannot have {characters[0]} to {characters[1]} characters; stay within 2 and 60")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative; take 0 or more")


def _name(number: int) -> str:
    return f"Glyphs_{number + 1:02d}"


def _background(alphabets: int) -> int:
    """The number of background alphabets: 30 of 50, as in Omniglot, and that share of other numbers."""
    return min(max(2, round(alphabets * 0.6)), alphabets - 2)


def _trial_alphabets(alphabets: int) -> range:
    """The numbers of the alphabets with fixed trials: the first half of the evaluation alphabets, at most 10."""
    first = _background(alphabets)
    return range(first, first + min(10, (alphabets - first + 1) // 2))


def _size(seed: int, number: int, characters: tuple[int, int]) -> int:
    return int(np.random.default_rng([seed, number, 1]).integers(characters[0], characters[1] + 1))


def _draw(alphabets: int, drawers: int, characters: tuple[int, int], seed: int, progress: Progress) -> Iterator[Row]:
    for number in range(alphabets):
        pictures = draw_alphabet(seed, number, drawers=drawers, characters=characters)
        origin = _origin(number, alphabets)
        for character, drawings in enumerate(pictures):
            for drawer, ink in enumerate(drawings):
                grey = np.where(ink, 255, 0).astype(np.uint8)
                yield Row(png.encode(ink), grey, _name(number), _character(character), drawer + 1, origin)
        progress(number + 1, alphabets)


def draw_alphabet(
    seed: int, number: int, *, drawers: int = DRAWERS, characters: tuple[int, int] = CHARACTERS
) -> np.ndarray:
    """All drawings of an alphabet: bool (characters, drawers, 105, 105), True = ink."""
    rng = np.random.default_rng([seed, number, 0])
    style, hands = strokes.Style.of(rng), pen.Hands.of(rng, drawers)
    wanted = _size(seed, number, characters)
    accepted: list[list[strokes.Stroke]] = []
    looks, pictures = np.zeros((0, 21 * 21), np.float32), []
    alike, attempts = _ALIKE, 0
    while len(pictures) < wanted:
        attempts += 1
        if attempts > _ATTEMPTS:  # a poor style: let its characters be more alike
            alike, attempts = (1 + alike) / 2, 0
        idea = strokes.invent(rng, style, accepted)
        fine = _fine(idea, style)
        if fine is None:
            continue
        seen = _look(fine)
        if (looks @ seen > alike).any():
            continue
        looks = np.concatenate([looks, seen[None]])
        accepted.append(idea)
        pictures.append(pen.draw(rng, fine, strokes.smoothed(fine, 0.25), hands))
        attempts = 0
    return np.stack(pictures)


def extra(count: int, *, pixels: bool = True, moved: Callable[[], object] = lambda: None) -> Drawings:
    """`count` alphabets in memory, to train on beside a data set's own. No data set's seed makes the same ones.

    Without `pixels` nothing is drawn, and `packed` is empty. `moved` is called after each alphabet that is drawn.
    """
    sizes = [_size(_EXTRA_SEED, number, CHARACTERS) for number in range(count)]
    packed = []
    for number in range(count if pixels else 0):
        packed.append(np.packbits(draw_alphabet(_EXTRA_SEED, number).reshape(-1, pen.SIZE * pen.SIZE), axis=1))
        moved()
    total = sum(sizes) * DRAWERS
    return Drawings(
        packed=np.concatenate(packed) if packed else np.zeros((total, 0), np.uint8),
        height=pen.SIZE, width=pen.SIZE, bits=1,
        row=np.arange(total),
        character=np.repeat(np.arange(sum(sizes)), DRAWERS),
        drawer=np.tile(np.arange(1, DRAWERS + 1), sum(sizes)),
        characters=tuple(
            f"Extra_{number + 1:02d}/{_character(n)}" for number, size in enumerate(sizes) for n in range(size)
        ),
        alphabet_of=np.repeat(np.arange(count), sizes),
        alphabets=tuple(f"Extra_{number + 1:02d}" for number in range(count)),
    )  # fmt: skip


def _fine(idea: list[strokes.Stroke], style: strokes.Style) -> np.ndarray | None:
    """The strokes of a character as a pen follows them, (S, P, 2) pixels; None if it has too little ink or too much."""
    if not idea:
        return None
    placed = strokes.on_sheet(idea, style)
    length = strokes.lengths(placed)
    if not _INK[0] <= length.sum() <= _INK[1]:
        return None
    fine = strokes.even(placed, pen.points_for(length.max()))
    return fine + style.rounded * (strokes.smoothed(fine, 0.2) - fine)


def _look(fine: np.ndarray) -> np.ndarray:
    """A blurred picture of a character, in 21 x 21 cells."""
    plain = pen.ink(fine.reshape(1, -1, 2) + pen.SIZE / 2, np.array([1.3]))[0]
    return look(plain.reshape(21, 5, 21, 5).mean(axis=(1, 3), dtype=np.float32))


def fixed_trials(sizes: list[int], *, drawers: int, chosen: range, seed: int) -> FixedTrials:
    """Two runs for each chosen alphabet, like Lake's, of 20 characters by two drawers.

    If any chosen alphabet has fewer than 20, all runs have that many. `sizes` are the numbers of characters of all
    alphabets. Each character of a run is the query of one trial.
    """
    starts = np.cumsum([0, *sizes]) * drawers
    n_way = min(20, *(sizes[number] for number in chosen))
    parts = []
    for run, number in enumerate([number for number in chosen for _ in range(2)]):
        rng = np.random.default_rng([seed, number, 2, run % 2])
        asked, shown = rng.permutation(drawers)[:2]
        support, query = rng.permutation(sizes[number])[:n_way], rng.permutation(n_way)
        rows = starts[number] + support * drawers
        parts.append((np.full(n_way, run + 1), rows[query] + asked, np.tile(rows + shown, (n_way, 1)), query))
    return FixedTrials(*(np.concatenate(part).astype(np.int64) for part in zip(*parts, strict=True)))
