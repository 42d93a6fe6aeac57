"""Settings of a run: a TOML file in `tune_jobs/` plus `--set section.key=value`; typed, frozen, checked when read.

Unknown keys are refused with the nearest known one. Each part of the program gets the section it needs, never the tree.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oneshot.base.errors import UserError, flaw, nearest
from oneshot.base.kinds import Depth, Natural, NumberOrRange, Plain, Positive, Several, Views, Width

KOCH_LEAST = 65  # pixels a side of the koch network's drawings, see `models.koch`
Optimizer = Literal["sgd", "adam", "adamw"]
# Named here too (`splits.SPLITS` and OWN, `trials.NAMES`): a slip is found when the file is read, not by the last job.
SplitName = Literal["lake", "lake-all", "koch", "minimal1", "minimal1-all", "minimal2", "minimal2-all", "own"]
Protocol = Literal["lake400", "within", "between", "seed352"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Data(Section):
    """Where drawings come from and how they become batches."""

    dataset: str = "auto"  # omniglot | glyphs | auto: Omniglot or else glyphs | a name, or folder: one's own images
    split: SplitName = "lake"  # own: of one's own images, which have no other
    size: Annotated[int, Field(ge=16, le=512)] = 105  # pixels a side, as the network sees them
    extra_alphabets: Annotated[int, Field(ge=0, le=1_000)] = 0  # generated ones that are taught too
    composed_alphabets: Annotated[int, Field(ge=0, le=1_000)] = 0  # taught too: of characters' halves; not of photos
    sampling: Literal["pairs", "episodes"] = "pairs"
    balance: bool = True  # equal weight to each alphabet (Koch et al., section 4.1) instead of to each character
    hard_negatives: Annotated[float, Field(ge=0, le=1)] = 0.0  # of pairs: the share of different ones in one alphabet
    drawers: Several = 4  # of episodes: drawings of each character
    alphabets: Natural = 4  # of episodes: alphabets that the characters come from; 0: any number
    distort: Annotated[float, Field(ge=0, le=1)] = 0.5  # chance of each component of the affine distortion; 0: none
    elastic: Annotated[float, Field(ge=0, le=20)] = 0.0  # spread of the elastic distortion, pixels of 105; 0: none
    rotations: bool = False  # alphabets turned by 90, 180 and 270 degrees count as further alphabets
    flips: bool = False  # mirrored alphabets count as further alphabets


class Model(Section):
    name: Literal["koch", "conv4", "resnet"] = "koch"
    width: Width = 32  # channels of the first stage; resnet only
    depth: Depth = 1  # residual blocks of each of the last two stages; resnet only
    init: Literal["torch", "koch"] = "torch"
    head: Literal["plain", "calibrated"] = "plain"  # calibrated: scaled on the first batch, so that logits spread by 1
    # Positions in which the trained network compares two drawings, and averages: 4 quarter turns; 8: mirrored, too.
    # A training and its validation look at one.
    views: Views = 1


class Train(Section):
    objective: Literal["bce", "softmax", "both"] = "bce"
    optimizer: Optimizer = "sgd"
    lr: Annotated[float, Field(gt=0)] = 1e-2
    batch: Several = 128  # over all workers: pairs, or drawings where sampling is "episodes"
    epochs: Positive = 200
    examples: Positive = 12_800  # an epoch's length in the unit of `batch`; rounded down to whole batches
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd only
    weight_decay: Annotated[float, Field(ge=0)] = (
        0.0  # of the encoder's weights, not its biases and norms, not the head
    )
    head_lr: Annotated[float, Field(gt=0)] = 1.0  # the head's learning rate as a multiple of lr
    schedule: Literal["none", "step", "cosine"] = "none"  # step: times 0.99 an epoch
    warmup: Natural = 0  # steps over which the learning rate rises to its height
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share an average of the weights keeps at each step; 0: no average
    clip: Annotated[float, Field(ge=0)] = 0.0  # greatest norm of the gradient; 0: no clipping
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the hardware multiplies it
    patience: Natural = 0  # epochs without a better one, as `keep` has it, before stopping; 0: never
    # The network of which epoch: best, of the lowest validation loss; oneshot, of the highest one-shot accuracy within
    # the validation alphabets (Koch et al. 2015, section 3.2), of equals the lowest loss; last. A search goes by the
    # validation loss of that epoch, and its early stopping (`search.grace`) by that of each.
    keep: Literal["best", "oneshot", "last"] = "best"
    seed: Natural = 0
    val_pairs: Several = 4_000
    val_trials: Positive = 400


class Search(Section):
    """What the tuner varies. A point is a set of `train` keys (optimizer, lr, batch) and dotted keys of any section."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 16
    searcher: Literal["random", "optuna"] = "random"
    seed: Natural = 0
    lr: dict[Optimizer, Annotated[list[float], Field(min_length=2, max_length=2)]] = {
        "sgd": [1e-3, 2e-1],
        "adam": [1e-4, 1e-2],
        "adamw": [1e-4, 1e-2],
    }  # for each optimizer that is searched, the range of its learning rate, sampled log-uniformly
    # Each point with adamw, which without decay is adam, draws its own train.weight_decay from here, log-uniformly.
    weight_decay: Annotated[list[float], Field(min_length=2, max_length=2)] = [1e-4, 1e-1]
    batch: Annotated[list[Several], Field(min_length=1)] = [64, 128, 256]
    choices: dict[str, list[Plain]] = {}  # further dotted keys, each with the values to choose from
    first: list[dict[str, Plain]] = [{"optimizer": "sgd", "lr": 1e-2, "batch": 128}]  # points tried before all others
    grace: Natural = 1  # epochs after which a trial has to be among the best to go on; 0: no early stopping
    reduction: Several = 3  # of the trials that come so far, one in this many goes on, this many times as far

    @model_validator(mode="after")
    def _check(self) -> "Search":
        if not self.lr:
            raise ValueError("search.lr: names no optimizer; give at least one, as in adam = [1e-4, 1e-2]")
        for name, (low, high) in self.lr.items():
            if not 0 < low <= high:
                raise ValueError(f"search.lr.{name} = [{low}, {high}]: needs 0 < low <= high")
        low, high = self.weight_decay
        if not 0 < low <= high:
            raise ValueError(f"search.weight_decay = [{low}, {high}]: needs 0 < low <= high")
        for key, values in self.choices.items():
            if not values:
                raise ValueError(f"search.choices.{key}: an empty list leaves nothing to choose from")
        return self


class Group(Section):
    """Nodes of one size."""

    nodes: Positive
    cpus: Positive
    gpus: Natural = 0


class Scale(Section):
    # Processes a training, each with its share of every batch. A range, '1..4': as many of it as the nodes that are
    # there hold, fewer when one is lost, more when one is added.
    workers: NumberOrRange = 1
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"  # a worker's; below 1: one-worker trials share it
    cpus: Positive = 1  # a worker's cores, and its torch threads
    max_concurrent: Natural = 0  # trials at once; 0: as many as fit
    max_failures: Natural = 2  # restarts of a training whose worker or node died
    timeout: Annotated[float, Field(ge=5, le=1e6)] = 300  # seconds a worker may be silent or without room: a restart
    compress: Literal["none", "bf16"] = "none"  # how gradients travel between workers; bf16: half the bytes, rounded
    ahead: bool = True  # the next trial's processes start while one trains; they take memory: 0.2 GB and 0.4 a worker
    checkpoint_steps: Natural = 0  # a checkpoint every so many steps; 0: after each epoch only
    autoscaler: list[
        Group
    ] = []  # nodes that the cluster's autoscaler may bring; those of such a size that are there count

    @property
    def least(self) -> int:
        return int(str(self.workers).split("..")[0])

    @property
    def most(self) -> int:
        return int(str(self.workers).split("..")[-1])

    def numbers(self, batch: int) -> list[int]:
        """The numbers of workers that a training of this batch may have: those that share it evenly."""
        return [number for number in range(self.least, self.most + 1) if batch % number == 0]


class Evaluate(Section):
    protocols: Annotated[list[Protocol], Field(min_length=1)] = ["lake400", "within", "between", "seed352"]
    trials: Positive = 10_000
    n_way: Several = 20
    k_shot: Positive = 1
    seed: Natural = 0


class Settings(Section):
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    search: Search = Search()
    scale: Scale = Scale()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        train, data = self.train, self.data
        if train.patience > train.epochs:
            raise ValueError(f"train.patience = {train.patience}: more than train.epochs = {train.epochs}")
        if train.patience and train.keep == "last":
            raise ValueError(
                f"train.patience = {train.patience}: waits for a better epoch; needs train.keep = 'best' or 'oneshot'"
            )
        if train.objective != "bce" and data.sampling != "episodes":
            raise ValueError(f"train.objective = '{train.objective}': needs data.sampling = 'episodes'")
        if data.hard_negatives and data.sampling != "pairs":
            raise ValueError(f"data.hard_negatives = {data.hard_negatives}: needs data.sampling = 'pairs'")
        if train.examples < train.batch:
            raise ValueError(f"train.examples = {train.examples}: less than one batch of {train.batch}")
        for least, key in ((4, "rotations"), (8, "flips")):
            if self.model.views >= least and not getattr(data, key):
                raise ValueError(f"model.views = {self.model.views}: such positions are learnt by data.{key} = true")
        if self.model.name == "koch" and data.size < KOCH_LEAST:
            raise ValueError(f"data.size = {data.size}: the koch network needs at least {KOCH_LEAST} (the paper: 105)")
        self._check_batch()
        return self

    def _check_batch(self) -> None:
        batch, scale = self.train.batch, self.scale
        for end in (scale.most, scale.least):
            if batch % end:
                of = f", an end of {scale.workers}" if scale.most > scale.least else ""
                raise ValueError(f"train.batch = {batch}: not divisible by scale.workers = {end}{of}")
        if self.data.sampling == "pairs":
            if batch % 2:
                raise ValueError(f"train.batch = {batch}: must be even, half of the pairs are same, half different")
            return
        unit = self.data.drawers * max(self.data.alphabets, 1)
        if batch % unit or batch // self.data.drawers < 2:
            raise ValueError(
                f"train.batch = {batch}: an episode needs a multiple of data.drawers x data.alphabets = {unit} drawings"
            )

    def with_point(self, point: Mapping[str, Any], *, source: str = "the search") -> "Settings":
        """These settings with a point of the search in place. Raises UserError, of `source`, where it does not fit."""
        changes = {key if "." in key else f"train.{key}": value for key, value in point.items()}
        return override(self, changes, source=source)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.model_dump())


def jobs_folder() -> Path:
    """The jobs that come with the program: beside the package, in the repository and where a Ray job works."""
    return Path(__file__).resolve().parents[2] / "tune_jobs"


def job_file(job: str) -> Path:
    """The TOML file of a job, given by name (`quick`) or by path. Raises UserError where there is none."""
    path = Path(job)
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"the job '{job}' has a name that is not UTF-8, and records bear it: name another") from None
    if path.suffix == ".toml" or path.is_dir():
        return path
    for folder in (Path("tune_jobs"), jobs_folder()):
        if (folder / f"{job}.toml").is_file():
            return folder / f"{job}.toml"
    known = sorted(path.stem for path in jobs_folder().glob("*.toml"))
    raise UserError(f"no job '{job}' in tune_jobs/: {nearest(job, known)}")


def read(path: Path, changes: Iterable[str] = ()) -> Settings:
    """The settings of a TOML file, changed by `section.key=value` texts. Raises UserError naming file, key, value."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a job is a TOML file or one of tune_jobs/") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; a job is a TOML file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return override(parse_toml(content, str(path)), dict(_change(text) for text in changes), source="--set")


def parse_toml(content: bytes, source: str) -> Settings:
    """Settings of a TOML text. Raises UserError naming `source`, and the key and the value or the line."""
    try:
        tree = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise UserError(f"{source} is not UTF-8 text; a job is a TOML file") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, thousands of brackets
        raise UserError(f"{source} is not TOML: {error}") from None
    return parse(tree, source)


def parse(tree: Mapping[str, Any], source: str) -> Settings:
    """Settings of a tree of sections. Raises UserError naming `source`, the key and the value."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {_sentence(error)}") from None


def override(settings: Settings, changes: Mapping[str, Any], *, source: str) -> Settings:
    """Settings with dotted keys (`train.lr`) changed. Raises UserError, of `source`, for an unknown key or an unfit
    value."""
    tree = settings.model_dump()
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = tree
        for depth, section in enumerate(sections):
            if section not in place and depth < 2:
                raise UserError(f"{source}: '{key}' names no setting; {nearest(section, place)}")
            if not isinstance(place.get(section), dict):
                whole = ".".join(sections[: min(depth + 1, 2)])
                raise UserError(f"{source}: '{key}' names no setting; give {whole} as a whole, as in a job's file")
            place = place[section]
        if not sections:
            raise UserError(f"{source}: '{key}' names no setting; write section.key, as in train.lr")
        place[last] = value
    return parse(tree, source)


def _change(text: str) -> tuple[str, Any]:
    """`train.lr=0.01` as a key and a TOML value; a bare word is taken as a string, and so is all that is not quoted
    where a setting takes nothing else: a data set may be called 2024-05-01."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write section.key=value, as in train.lr=0.01")
    if not text.isprintable():
        raise UserError(f"--set {text!r}: holds more than a line of text; write section.key=value, as in train.lr=0.01")
    key, value = key.strip(), value.strip()
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
    except (ValueError, RecursionError) as error:
        raise UserError(f"--set {key}: {error}; write a smaller value") from None
    return key, found if isinstance(found, str) or not _is_text(key) else value


def _is_text(key: str) -> bool:
    """Whether the setting takes any text and nothing else."""
    section, _, name = key.partition(".")
    fields = _model([section]).model_fields if section in Settings.model_fields else {}
    return name in fields and fields[name].annotation is str


def _sentence(error: ValidationError) -> str:
    """The first flaw, with the nearest known key for an unknown one."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        known = _model(first["loc"][:-1]).model_fields
        return f"'{'.'.join(map(str, first['loc']))}' names no setting; {nearest(str(first['loc'][-1]), known)}"
    return flaw(error)


def _model(sections: Iterable[str | int]) -> type[BaseModel]:
    """The model of a section, or of an item, by its number, of a list of them."""
    kind: Any = Settings
    for section in sections:
        kind = get_args(kind)[0] if isinstance(section, int) else kind.model_fields[section].annotation
    return kind
