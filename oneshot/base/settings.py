"""Settings of a run: what there is to set, typed, frozen and checked; `jobs` reads them.

The text under a setting says what it means: `oneshot settings` and tune_jobs/README.md show it, read by `meanings`.
Each part of the program gets the section it needs, never the tree.
"""

from typing import Annotated, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, model_validator

from oneshot.base.kinds import Depth, Natural, NumberOrRange, Plain, Positive, Several, Views, Width

KOCH_LEAST = 65  # pixels a side of the koch network's drawings, see `models.koch`
Optimizer = Literal["sgd", "adam", "adamw"]
# Named here (the protocols in `trials.NAMES`, too): a slip is found when the file is read, not by the last job.
SplitName = Literal[
    "lake", "lake-all", "koch", "minimal1", "minimal1-all", "minimal2", "minimal2-all", "own", "own-all"
]
OWN_SPLITS: tuple[SplitName, ...] = ("own", "own-all")  # of images of one's own, which have no others
Protocol = Literal["lake400", "within", "between", "seed352"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Data(Section):
    """Where drawings come from and how they become batches."""

    dataset: str = "auto"
    """The data set: omniglot; glyphs, or glyphs-80 for another number of generated alphabets; auto, which is Omniglot
    where it can be had and else glyphs; or the name of a set of your own images (folder, where there is only one)."""
    split: SplitName = "lake"
    """Which alphabets train, validate and test. A split ending in -all also trains on the validation alphabets. Your
    own images have own and own-all; lake then means own."""
    size: Annotated[int, Field(ge=16, le=512)] = 105
    """Pixels a side of a drawing, as the network sees it. The koch network needs 65 at least."""
    extra_alphabets: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Number of generated alphabets to train on as well. 0: none."""
    composed_alphabets: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Number of alphabets to train on as well whose characters are composed of halves of the set's own. 0: none. Not
    for photos."""
    sampling: Literal["pairs", "episodes"] = "pairs"
    """What a batch is made of: independent pairs, half of them same; or episodes, of which all pairs count: some
    characters of some alphabets, several drawings of each."""
    balance: bool = True
    """Equal weight to each alphabet (Koch et al. 2015, section 4.2), instead of to each character."""
    hard_negatives: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of different pairs whose two characters are taken from one alphabet; the others are of any. 0: all are
    of any. Needs data.sampling = "pairs"."""
    drawers: Several = 4
    """Drawings of each character in an episode, all of them different. For data.sampling = "episodes"."""
    alphabets: Natural = 4
    """Alphabets that the characters of an episode come from, equally many of each. 0: characters of any alphabets. For
    data.sampling = "episodes"."""
    distort: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The chance of each component of the affine distortion of a training drawing: rotation, shear, scale and shift,
    as Koch et al. have them. 0: no distortion."""
    elastic: Annotated[float, Field(ge=0, le=20)] = 0.0
    """The elastic distortion of a training drawing: the standard deviation of a pixel's displacement, in pixels of a
    drawing of 105. 0: none."""
    rotations: bool = False
    """Alphabets turned by 90, 180 and 270 degrees count as further alphabets."""
    flips: bool = False
    """Mirrored alphabets count as further alphabets."""


class Model(Section):
    """The network."""

    name: Literal["koch", "conv4", "resnet"] = "koch"
    """The encoder: the network of Koch et al. 2015; four convolutions of 64 channels (Vinyals et al. 2016); or a
    residual network, of model.width and model.depth."""
    width: Width = 32
    """Channels of the first stage; the later ones have 2, 4 and 4 times as many. For model.name = "resnet"."""
    depth: Depth = 1
    """Residual blocks of each of the last two stages. For model.name = "resnet"."""
    init: Literal["torch", "koch"] = "torch"
    """How fresh weights start: as torch has it, or as Koch et al. 2015, section 3.2, say."""
    head: Literal["plain", "calibrated"] = "plain"
    """How a fresh head starts: plain, as model.init says; or calibrated, scaled on the first batch so that the logits
    of its pairs spread by 1."""
    views: Views = 1
    """Positions in which the trained network compares two images, averaging the results: 4 are the quarter turns, 8
    add their mirror images. Training and its validation use 1. 4 needs data.rotations, 8 also needs data.flips."""


class Train(Section):
    """The training: its loss, its optimizer and its length."""

    objective: Literal["bce", "softmax", "both"] = "bce"
    """The loss: binary cross-entropy of same and different; softmax, picking the same character among the different
    ones of the episode; or their sum. All but bce need data.sampling = "episodes"."""
    optimizer: Optimizer = "sgd"
    """The optimizer. adamw decouples weight decay from the gradient."""
    lr: Annotated[float, Field(gt=0)] = 1e-2
    """The peak learning rate, before train.schedule lowers it."""
    batch: Several = 128
    """Pairs of a step, or drawings where data.sampling = "episodes", over all workers together. Pairs: an even number;
    drawings: a multiple of data.drawers x data.alphabets. Each number of scale.workers must divide it."""
    epochs: Positive = 200
    """Epochs of a training: after each there is a validation and a checkpoint."""
    examples: Positive = 12_800
    """The length of an epoch in the unit of train.batch, rounded down to whole batches."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """The momentum of sgd; the other optimizers do not use it."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """The optimizer's weight decay of the encoder's weights: not of its biases and norms, nor of the head. 0: none."""
    head_lr: Annotated[float, Field(gt=0)] = 1.0
    """The head's learning rate as a multiple of train.lr."""
    schedule: Literal["none", "step", "cosine"] = "none"
    """The learning rate after warm-up: none, constant; step, multiplied by 0.99 each epoch; cosine, falling to 0 with
    the last epoch."""
    warmup: Natural = 0
    """Steps over which the learning rate rises to train.lr. 0: no warm-up."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The decay per step of a moving average of the weights; the averaged weights are validated and kept. 0: no
    average."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """The maximum norm of a step's gradient; a larger one is scaled down to it. 0: no clipping."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """The numbers that layers multiply: 32 bits (in training on a GPU, convolutions round them to TF32's 19), or
    bfloat16; auto is bf16 where the hardware multiplies it."""
    patience: Natural = 0
    """Epochs without improvement, as measured by train.keep, after which a training ends early. 0: off. Not with
    train.keep = "last", and at most train.epochs."""
    keep: Literal["best", "oneshot", "last"] = "best"
    """Which epoch's network is kept: best, the lowest validation loss; oneshot, the highest one-shot accuracy within
    the validation alphabets (Koch et al. 2015, section 3.2), ties going to the lowest loss; last, the last. A search
    compares trials by the validation loss of that epoch, its early stopping (search.grace) by that of each epoch."""
    seed: Natural = 0
    """The seed of everything random in a training: initial weights, batches, distortions."""
    start: str = ""
    """A network to start from instead of fresh weights: a run's folder, its best/ or a checkpoint; a path or a URI. It
    must have the same model.name, model.width, model.depth and data.size. Encoder and head are taken as they are:
    model.init and model.head are ignored. The run keeps a copy in start/, and its settings name it PATH@DIGEST, which
    accepts no other network. Empty: none."""
    val_pairs: Several = 4_000
    """Pairs that the validation loss is measured on after each epoch; an odd number is made even."""
    val_trials: Positive = 400
    """One-shot trials on the validation alphabets after each epoch: they are shown, and decide nothing but where
    train.keep = "oneshot"."""

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.examples // self.batch


class Search(Section):
    """What the tuner varies. A point is a set of `train` keys (optimizer, lr, batch) and dotted keys of any section."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 16
    """The number of points to try, including those of search.first."""
    searcher: Literal["random", "optuna"] = "random"
    """How points are proposed: at random, or by Optuna's TPE, which learns from the trials so far."""
    seed: Natural = 0
    """The seed of the points that are drawn."""
    lr: dict[Optimizer, Annotated[list[float], Field(min_length=2, max_length=2)]] = {
        "sgd": [1e-3, 2e-1],
        "adam": [1e-4, 1e-2],
        "adamw": [1e-4, 1e-2],
    }
    """For each optimizer that is searched, the lowest and the highest learning rate; drawn log-uniformly between."""
    weight_decay: Annotated[list[float], Field(min_length=2, max_length=2)] = [1e-4, 1e-1]
    """The least and the greatest train.weight_decay of a point with adamw, which without decay is adam; drawn
    log-uniformly between."""
    batch: Annotated[list[Several], Field(min_length=1)] = [64, 128, 256]
    """The values of train.batch to choose from."""
    choices: dict[str, list[Plain]] = {}
    """Further settings to vary: dotted keys of data, model or train, each with the values to choose from, as in
    "model.width" = [16, 32]."""
    first: list[dict[str, Plain]] = [{"optimizer": "sgd", "lr": 1e-2, "batch": 128}]
    """Points that are tried before all others: keys of train, and dotted keys of other sections. What one leaves out
    is as the job has it."""
    grace: Natural = 1
    """Epochs after which a trial stops and continues only if it is among the best. 0: all trials run to their end."""
    reduction: Several = 3
    """Of the trials that get that far, the best one in this many continues, until it has trained this many times as
    long."""

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
    """How many."""
    cpus: Positive
    """Cores of each."""
    gpus: Natural = 0
    """GPUs of each."""


class Scale(Section):
    """What it runs on, and which failures it survives. Nothing here changes what a training learns, except how sums are
    rounded; which trials a search stops early may depend on it."""

    workers: NumberOrRange = 1
    """Worker processes of a training, each with its share of every batch. A range such as '1..4' is elastic: as many as
    the current nodes hold, fewer when one is lost, more when one is added."""
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """GPUs of a worker: 1; 0 for none; below 1, trials of one worker share a GPU; auto is 1 where a node has one."""
    accelerator: str = ""
    """The GPU that a node must have for workers to run on it, by Ray's name for its kind, as in H100. Empty: any or
    none."""
    cpus: Positive = 1
    """Cores of a worker, and its torch threads."""
    max_concurrent: Natural = 0
    """Trials at once, at the most. 0: as many as fit."""
    max_failures: Natural = 2
    """Restarts of a training whose worker or node died, from its last checkpoint. 0: none."""
    timeout: Annotated[float, Field(ge=5, le=1e6)] = 300
    """Seconds that a worker may be silent, make no progress or wait for room before its training is restarted. One that
    is alive but makes no progress has at least a minute."""
    compress: Literal["none", "bf16"] = "none"
    """How gradients travel between workers: as they are, or in bf16, which is half the bytes, rounded."""
    ahead: bool = True
    """The next trial's processes start while one trains. They take memory: 0.2 GB, and 0.4 GB a worker."""
    checkpoint_steps: Natural = 0
    """A checkpoint every so many steps inside an epoch, too. 0: after each epoch only."""
    autoscaler: list[Group] = []
    """Nodes that the cluster's autoscaler may bring, as in [{nodes = 4, cpus = 8, gpus = 1}], with GPUs of the kind
    scale.accelerator; those of such a size that are there already count."""

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
    """The judgement on the test alphabets, after a search or by `evaluate`."""

    protocols: Annotated[list[Protocol], Field(min_length=1)] = ["lake400", "within", "between", "seed352"]
    """The one-shot protocols: lake400, Lake's 400 fixed trials; within, characters of one alphabet; between, of any
    alphabets; seed352, 352 trials of any drawings. lake400 and seed352 are 20-way 1-shot, and left out otherwise."""
    trials: Positive = 10_000
    """Trials that within and between make, each."""
    n_way: Several = 20
    """Classes to choose from. Your own images take as many as their test classes allow, and say so."""
    k_shot: Positive = 1
    """Images of each class in the support; of several the embeddings are averaged."""
    seed: Natural = 0
    """The seed of the trials that within and between make."""


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
                f"train.patience = {train.patience}: stopping early needs a best epoch: set train.keep = 'best' or"
                " 'oneshot'"
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

    def to_toml(self) -> str:
        return tomli_w.dumps(self.model_dump())
