"""What the JSON files of a run hold, checked when they are read: a person or a broken disk may have changed them."""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oneshot.base.errors import UserError, flaw
from oneshot.base.kinds import Natural, NumberOrRange, Plain, Positive, Views
from oneshot.base.storage import Folder

Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Measured = Annotated[float, Field(allow_inf_nan=True)] | None  # only shown to people, so any value will do
Ended = Literal["", "epochs", "patience", "diverged"]
Status = Literal["pending", "running", "finished", "stopped", "diverged", "failed"]
TRIAL = r"^\d{3,6}$"  # a trial's id, which is also the name of its folder


class Record(BaseModel):
    """The base of all records. Keys beyond those named are accepted; numbers must be finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Row(Record):
    """An epoch, as a line of `history.jsonl`."""

    epoch: Positive
    val_loss: float | None
    best: bool  # whether its network was the one to keep at that time
    ended: Ended = ""
    train_loss: Measured = None
    train_accuracy: Measured = None
    val_accuracy: Measured = None
    val_oneshot: Measured = None
    val_spread: Measured = None
    images_per_second: Measured = None
    seconds: Measured = None
    commit: str | None = None  # of the source that trained it; older rows do not say


Polarity = Literal["dark", "light", "photo"]  # as `data.clean.POLARITIES`


class Cleaning(Record):
    """How one's own images became the drawings that a network was trained on: arguments of `data.clean.prepare`."""

    side: Annotated[int, Field(ge=1, le=4096)]
    polarity: Polarity


class DataRoot(Record):
    """`data.json` of a run: the data root that it was last told to use."""

    root: Annotated[str, Field(min_length=1)]


class Origin(Record):
    """A network that a training started from, with the settings that it was trained with itself."""

    sha256: str  # of its weights
    settings: dict[str, dict[str, Any]]


class State(Record):
    """`state.json` of a checkpoint."""

    epoch: Natural
    step: Natural
    sums: Annotated[list[float], Field(min_length=3, max_length=3)]
    best_epoch: Natural
    best_loss: float | None
    ended: Ended
    history: list[Row]
    settings: dict[str, dict[str, Any]]
    sha256: dict[str, str]
    cleaning: Cleaning | None = None
    start: list[Origin] = []  # the network that the training started from, then the one which that started from, ...


class Trial(Record):
    id: Annotated[str, Field(pattern=TRIAL)]
    status: Status
    settings: dict[str, Plain]
    epochs: Natural
    best_epoch: Natural | None
    val_loss: float | None
    seconds: Seconds
    error: str | None
    notes: list[str] = []


class Study(Record):
    """The part of `study.json` that a study needs to go on."""

    job: Annotated[str, Field(pattern=r"^[^/]+$")]  # also the name of its record
    started: float
    seconds: Seconds
    trials: list[Trial]


class FinishedStudy(Study):
    """The part of `study.json` that the study's record shows."""

    dataset: str
    split: str
    epochs: Positive
    device: str
    workers: NumberOrRange
    concurrent: Positive
    searcher: str
    named: Natural = 0
    rungs: list[Positive] = []  # older studies do not name them
    epochs_run: Natural
    epochs_if_all_had_finished: Positive


class Pruned(Record):
    """`pruned.json` of a study: its trials whose checkpoints were removed, or are being removed, as they are no longer
    needed. The study goes on with none of these trials. There may be none, if none of their checkpoints could be."""

    time: float  # seconds since 1970
    trials: list[Annotated[str, Field(pattern=TRIAL)]]


class Score(Record):
    trials: Positive
    correct: Natural
    accuracy: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)]


class Outcome(Score):
    n_way: Positive
    k_shot: Positive
    pixels: Share | None = None  # the accuracy of the nearest neighbour by pixels alone; older results have none


class Within(Outcome):
    alphabets: Positive


class AtFalseMatch(Record):
    """The similarity that gives a false match rate on validation pairs, and the errors that it has on test pairs."""

    rate: Share
    similarity: Share
    false_match: Share
    false_non_match: Share


class Errors(Record):
    eer: Share
    auc: Share
    different: Positive
    at_false_match: Annotated[list[AtFalseMatch], Field(min_length=1)]


class Verification(Record):
    pairs: Positive
    accuracy: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)]
    threshold: Share
    at_threshold: Share
    errors: dict[str, Errors] = {}  # by kind of different pairs; older results have none


class BestTrial(Record):
    id: str | None
    settings: dict[str, Plain]
    epoch: Positive
    val_loss: float


class Hardware(Record):
    cpu: str
    cores: Positive
    gpus: list[str]


class Environment(Record):
    hardware: Hardware
    commit: str | None


class Test(Record):
    """The size of the test part, which judges a network."""

    classes: Natural
    images: Natural


class Result(Record):
    """`result.json`."""

    dataset: str
    split: str
    test: Test | None = None  # older results do not say
    protocols: dict[str, Outcome]
    skipped: dict[str, str] = {}
    lowered: dict[str, str] = {}
    overlap: str | None = None
    per_alphabet: dict[str, Score]
    within_fixed: Within | None = None
    verification: Verification | None = None
    views: Views = 1
    best_trial: BestTrial | None
    test_evaluations: Natural | None = None
    sha256: str | None = None
    start: str | None = None  # the sha256 of the network that its training started from
    trained: Environment | None = None  # where it was trained; older results say only where they were judged
    environment: Environment


class KeptDrawing(Record):
    png: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+=*$", max_length=1 << 16)]  # base64
    character: str
    drawer: int


class KeptTrial(Record):
    """`query` and `ranking` are numbers of drawings; `right` is the target's place among all n_way, 0 for the first."""

    query: Natural
    ranking: Annotated[list[Natural], Field(min_length=2)]
    scores: list[float | None]
    right: Natural

    @model_validator(mode="after")
    def _check(self) -> "KeptTrial":
        if len(self.scores) != len(self.ranking):
            raise ValueError(f"scores: {len(self.scores)} for {len(self.ranking)} drawings")
        return self


class Confusion(Record):
    characters: Annotated[list[str], Field(min_length=2, max_length=2)]
    counts: Annotated[list[Natural], Field(min_length=2, max_length=2)]  # errors, asked about the first; the second
    met: Natural
    drawings: Annotated[list[list[Natural]], Field(min_length=2, max_length=2)]


class Confusions(Record):
    protocol: str
    trials: Positive
    errors: Natural
    pairs: list[Confusion]


class MappedCharacter(Record):
    character: str
    drawing: Natural
    points: list[Annotated[list[Natural], Field(min_length=2, max_length=2)]]


class AlphabetMap(Record):
    alphabet: str
    explained: Share
    characters: list[MappedCharacter]


Point = Annotated[list[Share], Field(min_length=2, max_length=2)]  # false match and false non-match rate


class Hits(Record):
    """Which trials of a protocol were hits: base64 of a bit a trial, the first trial's the highest of its byte; as
    `evaluation.paired` writes and reads them. `digest`: of what was asked, the same only of the same trials."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    trials: Positive
    hits: str

    @model_validator(mode="after")
    def _check(self) -> "Hits":
        try:
            size = len(base64.b64decode(self.hits, validate=True))
        except ValueError:
            raise ValueError("hits: they are not base64") from None
        if size != -(-self.trials // 8):
            raise ValueError(f"hits: {size} bytes, and the bits of {self.trials} trials take {-(-self.trials // 8)}")
        return self


class Outcomes(Record):
    """`outcomes.json`: single trials of the judgement, which of all were hits, what was confused, a map of the
    embeddings, the errors of verification."""

    format: Literal[1]
    sha256: str | None
    protocol: str
    n_way: Positive
    k_shot: Positive
    trials: Positive
    correct: Natural
    hits: dict[str, Hits] = {}  # by protocol; older files have none
    per_alphabet: dict[str, Score]
    gallery: list[KeptTrial]
    errors: list[KeptTrial]
    confused: Confusions
    map: list[AlphabetMap]
    curves: dict[str, list[Point]] = {}  # of verification, by kind of different pairs; older files have none
    polarity: Polarity = "dark"  # how the pictures are; older files do not say
    drawings: list[KeptDrawing]

    @model_validator(mode="after")
    def _check(self) -> "Outcomes":
        used = [n for trial in (*self.gallery, *self.errors) for n in (trial.query, *trial.ranking)]
        used += [n for pair in self.confused.pairs for some in pair.drawings for n in some]
        used += [one.drawing for each in self.map for one in each.characters]
        if any(len(trial.ranking) != 2 for trial in self.errors):
            raise ValueError("errors: each ranks two drawings, the chosen one and the right one")
        if used and max(used) >= len(self.drawings):
            raise ValueError(f"drawings: there are {len(self.drawings)}, but number {max(used)} is shown")
        if (own := self.hits.get(self.protocol)) and own.trials != self.trials:
            raise ValueError(f"hits: {own.trials} trials of {self.protocol}, and {self.trials} were asked")
        return self


class Kept(Record):
    """A study's record in `tune_jobs/records/`. `judged` is how often the test alphabets had been scored for its run
    when the record was kept; older records have only the number at their judgement, which is in the result. `changes`
    holds the settings that differ from those of its job, by key; it is None in older records and if no such job was
    known."""

    experiment: str
    study: FinishedStudy
    result: Result
    judged: Natural | None = None
    changes: dict[str, Any] | None = None


class Spent(Record):
    """`time.json` of a training: its wall-clock seconds."""

    seconds: Seconds
    interrupted: bool


class Seed(Spent):
    """One training in a record of several seeds: what it took and its result."""

    seed: Natural
    epochs: Positive
    result: Result
    judged: Natural | None = None  # as in `Kept`


class Summary(Record):
    """One accuracy over several seeds."""

    mean: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)] | None
    spread: Share | None
    seeds: Positive


class Repeated(Record):
    """The record of one job with several seeds in `tune_jobs/records/`. `asked` are the seeds that it is to hold in the
    end; older records hold all of theirs and do not say."""

    experiment: str
    job: Annotated[str, Field(pattern=r"^[^/]+$")]
    asked: list[Natural] | None = None
    dataset: str
    split: str
    seconds: Seconds
    summary: dict[str, Summary]
    test_evaluations: Natural
    seeds: Annotated[list[Seed], Field(min_length=1)]


class BenchRow(Record):
    """A row of the bench's record. A row without a value failed (`met` is false) or was not run (`met` is None)."""

    name: str
    what: str
    against: str
    value: float | None
    unit: str
    reference: float | None
    ratio: float | None
    goal: str
    met: bool | None
    note: str | None
    better: Literal["more", "less"] = "more"
    commit: str | None
    bound: bool = False  # the reference was stopped early, so the ratio is a lower bound
    details: dict[str, Any] = {}
    settings: dict[str, Any] | None = None  # what it was measured with, as in `Bench`; older rows do not say
    versions: dict[str, str | None] | None = None


class BenchSettings(Record):
    """What the last call that wrote the record asked for; data set and `quick` are those of all its rows."""

    data: str
    quick: bool


class Bench(Record):
    """A record of the bench in `tune_jobs/records/`, one for each kind of machine."""

    kind: Literal["bench"]
    environment: Environment
    settings: BenchSettings
    rows: list[BenchRow]


def read(kind: type[BaseModel], folder: Folder, name: str, *, advice: str = "restore it or remove it") -> Any:
    """The value of a JSON file that holds a record of this kind. Raises UserError if it does not, OSError if it cannot
    be read."""
    value = folder.read_json(name)
    try:
        check(kind, value)
    except ValueError as error:
        raise UserError(f"{folder.file(name)} is damaged or of another version ({error}); {advice}") from None
    return value


def check(kind: type[BaseModel], value: Any) -> None:
    """Raise ValueError, as `key = value: what is wrong`, unless the value is a record of this kind."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        raise ValueError(flaw(error)) from None
