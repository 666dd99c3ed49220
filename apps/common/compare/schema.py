"""The schema of the result files, as types: what stands in `docs/results/*.json`."""

from typing import Any, NotRequired, TypedDict


class Row(TypedDict):
    """One measurement. An arm without randomness has the one seed 0."""

    data: str
    slice: str
    arm: str
    seed: int
    metric: str
    value: float
    higher_is_better: bool
    active_params: int | None
    total_params: int | None
    active_flops: float | None
    train_seconds: float | None
    peak_memory_mb: float | None


class Interval(TypedDict):
    """The paired difference `arm` minus `against` with its 95% interval.

    `units` is 0 where the interval stems from the seeds alone. `beyond` is True where the interval excludes
    zero and there are at least 5 seeds; with fewer the interval is printed, and nothing is claimed.
    """

    data: str
    slice: str
    metric: str
    arm: str
    against: str
    difference: float
    low: float
    high: float
    seeds: int
    units: int
    beyond: bool


class Opened(TypedDict):
    """One opening of a test split."""

    seed: int
    at: str


class Tested(TypedDict):
    """How often and when one configuration of an arm opened the test split, over all its seeds.

    `current` is False for a configuration whose figures are no longer among the rows.
    """

    data: str
    arm: str
    configuration: str
    current: bool
    times: int
    last: str
    openings: list[Opened]


class Scored(TypedDict):
    """One trial and its validation score (lower is better).

    It is None where the score was not finite, and where a single trial left nothing to choose.
    """

    trial: dict[str, Any]
    validation: float | None


class Choice(TypedDict):
    """What an arm chose from, and what it chose."""

    data: str
    arm: str
    seeded: bool
    trials: list[Scored]
    chosen: dict[str, Any]


class Code(TypedDict):
    """The fingerprint of the source, and how many cells each fingerprint has run."""

    now: str
    cells: dict[str, int]


class Run(TypedDict):
    """A run that measured some of the data sets alone; `cpu_hours` are those of all that it measured."""

    data: list[str]
    created: str
    commit: str
    environment: dict[str, Any]
    code: Code
    cpu_hours: float


class Results(TypedDict):
    """A result file. The fields that are not required belong to comparisons, not to benchmarks.

    `created`, `commit`, `environment`, `code` and `cpu_hours` are of the last run; sets that others measured
    are told in `earlier`, and those that none has measured yet in `unmeasured`.
    """

    app: str
    created: str
    commit: str
    command: str
    environment: dict[str, Any]
    data: dict[str, str]
    rows: list[Row]
    profile: NotRequired[str]
    seeds: NotRequired[int]
    budget: NotRequired[dict[str, Any]]
    cpu_hours: NotRequired[float]
    intervals: NotRequired[list[Interval]]
    tested: NotRequired[list[Tested]]
    choices: NotRequired[list[Choice]]
    code: NotRequired[Code]
    earlier: NotRequired[list[Run]]
    unmeasured: NotRequired[list[str]]
