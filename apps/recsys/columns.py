"""What the columns of a log are: tasks, features, who and when; guessed from a file, and editable."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import yaml

from apps.common.errors import UserError
from apps.common.files import replacing
from apps.common.mistakes import check_config
from apps.recsys.files import LIST, Kind, Log

FEW = 20
"""A column of whole numbers with so few values is a category."""
USER = ("user_id", "user", "uid", "customer_id", "visitor_id")
ITEM = ("item_id", "item", "iid", "video_id", "product_id", "movie_id", "article_id")
TIME = ("timestamp", "time", "time_ms", "ts", "datetime", "date")
"""Names by which a column is taken for what it is, the first that is there."""
SHAPES: dict[str, tuple[type, str]] = {
    "tasks": (dict, "a table of names"),
    "features": (dict, "a table of names and kinds"),
    "user": (str, "one name"),
    "item": (str, "one name"),
    "time": (str, "one name"),
    "outcomes": (list, "a list of names"),
}
"""What stands under each key of a schema."""
TAGS = ("|", ";", ",", " ")
"""What may stand between several values in one cell; a blank may also stand in a value."""


@dataclass
class Task:
    """A label.

    when: where it is 1, as a condition of pandas on the columns; by default the column of the task's name,
        which holds 0 and 1.
    group: tasks of one group share more (HoME); all are one by default.
    """

    when: str | None = None
    group: str = "all"


@dataclass
class Schema:
    """The columns of a log.

    tasks: labels by name, those of one group after one another.
    features: what is read of a row; a category, a number, or tags, several values in one cell.
    user, item, time: the columns that tell who, what and when, if there are any; user and item are features
        only where `features` has them.
    outcomes: columns that are known only afterwards; never features.
    """

    tasks: dict[str, Task]
    features: dict[str, Kind]
    user: str | None = None
    item: str | None = None
    time: str | None = None
    outcomes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = {name: self.tasks[name] for names in self.groups.values() for name in names}

    @property
    def groups(self) -> dict[str, list[str]]:
        """Group -> its tasks, in the order in which they are named."""
        found: dict[str, list[str]] = {}
        for name, task in self.tasks.items():
            found.setdefault(task.group, []).append(name)
        return found

    def features_of(self, kind: Kind) -> list[str]:
        """Names of the features of one kind."""
        return [name for name, own in self.features.items() if own == kind]

    def check(self, columns: Sequence[str], source: str, labels: bool = True) -> None:
        """Raise UserError where a log lacks a column, or a label is its own feature.

        labels: whether those must be there.
        """
        known = set(map(str, columns))
        told = {name for task in self.tasks.values() for name in named_in(task.when, self.features)}
        leaks = [name for name in self.features if name in {*self.tasks, *self.outcomes, *told}]
        if leaks:
            raise UserError(
                f"{source}: the schema has {leaks[0]} among features, and it is a label, tells one, or is an "
                "outcome, known only afterwards: take it out of features."
            )
        wanted = [*self.features, *(name for name in (self.user, self.item) if name)]
        if labels:
            wanted += [name for name, task in self.tasks.items() if task.when is None]
            wanted += [self.time] if self.time else []
        absent = [name for name in wanted if name not in known]
        if absent:
            raise UserError(
                f"{source} has no column {', '.join(map(repr, absent))}: it has "
                f"{', '.join(map(str, columns))}; add what is missing, blank where it is not known, or mend "
                "the schema."
            )

    def told(self) -> str:
        """What the columns are taken for, in one line."""
        roles = {"user": self.user, "item": self.item, "time": self.time}
        kinds: dict[str, list[str]] = {}
        for name, kind in self.features.items():
            kinds.setdefault(kind, []).append(name)
        said = [f"{role} {name}" for role, name in roles.items() if name]
        said += [f"{kind} {', '.join(names)}" for kind, names in kinds.items()]
        said.append(f"labels {', '.join(self.tasks)}")
        return f"columns are taken for {'; '.join(said)}"

    def labels(self, frame: pd.DataFrame, source: str) -> np.ndarray:
        """(N, K) float32: 0 or 1, NaN where a label is not known.

        Raises UserError for a label that is anything else, or a condition that cannot be read.
        """
        found = []
        for name, task in self.tasks.items():
            if task.when is not None:
                found.append(_where(frame, name, task.when, source))
                continue
            numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float32)
            odd = ~np.isin(numbers, (0, 1)) & frame[name].notna().to_numpy()
            if odd.any():
                row = int(odd.argmax())
                raise UserError(
                    f"{source}: the label {name} is {frame[name].iloc[row]} in row {row + 1}: "
                    "make it 0 or 1, or say in the schema when it is 1."
                )
            found.append(numbers)
        return np.stack(found, 1) if found else np.zeros((len(frame), 0), dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write it as YAML."""
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(dataclasses.asdict(self), sort_keys=False), encoding="utf-8")

    @classmethod
    def of(cls, content: Mapping[str, Any], source: str) -> Schema:
        """Read what `save` writes. Raises UserError for what is no schema."""
        known = {f.name for f in dataclasses.fields(cls)}
        wrong = sorted(set(content) - known)
        if wrong or not {"tasks", "features"} <= set(content):
            fault = f"has the unknown key {wrong[0]!r}" if wrong else "lacks tasks or features"
            raise UserError(f"{source} {fault}: a schema has {', '.join(sorted(known))}.")
        tasks = content["tasks"] or {}
        tasks = dict.fromkeys(tasks) if isinstance(tasks, list) else tasks
        for key, (kind, words) in SHAPES.items():
            value = tasks if key == "tasks" else content.get(key) or kind()
            if not isinstance(value, kind):
                raise UserError(f"{source}: {key} is {value!r}: make it {words}.")
        wrong = [name for name, task in tasks.items() if task is not None and not isinstance(task, dict)]
        if wrong:
            raise UserError(
                f"{source}: the task {wrong[0]} is {tasks[wrong[0]]!r}: give it `when` and `group`."
            )
        conditions = {name: (task or {}).get("when") for name, task in tasks.items()}
        odd = [name for name, when in conditions.items() if when is not None and not isinstance(when, str)]
        if odd:
            raise UserError(
                f"{source}: the task {odd[0]} is 1 when {conditions[odd[0]]!r}: write a condition."
            )
        bad = [name for name, task in tasks.items() if set(task or {}) - {"when", "group"}]
        if bad:
            raise UserError(f"{source}: the task {bad[0]} has other keys than when and group: take them out.")
        features = content["features"] or {}
        odd = [name for name, kind in features.items() if kind not in get_args(Kind)]
        if odd:
            raise UserError(
                f"{source}: the feature {odd[0]} is of kind {features[odd[0]]!r}: "
                f"make it one of {', '.join(get_args(Kind))}."
            )
        rest = {name: value for name, value in content.items() if name not in ("tasks", "features")}
        return cls({name: Task(**(task or {})) for name, task in tasks.items()}, dict(features), **rest)

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a file. Raises UserError where it is no schema."""
        return cls.of(check_config(path), str(path))

    @classmethod
    def infer(cls, log: Log, tasks: Sequence[str], source: str) -> Schema:
        """Guess from names and cells. Who, what and when go by their names; anything else is a feature.

        Args:
            log: the file.
            tasks: the columns of the labels.
            source: of the log, for messages.

        Raises:
            UserError: there is no such column.
        """
        frame = log.frame
        absent = [name for name in tasks if name not in frame]
        if absent:
            raise UserError(
                f"{source} has no column {absent[0]!r}: it has {', '.join(frame.columns)}; name another "
                "label."
            )
        who, what, when = (next((n for n in names if n in frame), None) for names in (USER, ITEM, TIME))
        kinds = {
            str(name): log.kinds.get(str(name)) or _kind(frame[name])
            for name in frame
            if name not in (*tasks, when)
        }
        kinds |= {name: "category" for name in (who, what) if name}
        return cls({name: Task() for name in tasks}, kinds, who, what, when)


def _where(frame: pd.DataFrame, name: str, condition: str, source: str) -> np.ndarray:
    try:
        found = np.broadcast_to(np.asarray(frame.eval(condition), dtype=bool), len(frame)).astype(np.float32)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source}: the task {name} cannot be read from {condition!r} ({reason}): mend the schema."
        ) from error
    blank = frame[named_in(condition, map(str, frame))].isna().any(axis=1).to_numpy()
    return np.where(blank, np.nan, found).astype(np.float32)


def named_in(condition: str | None, columns: Iterable[str]) -> list[str]:
    """The columns that a condition speaks of.

    >>> named_in("rating >= 4 and `my score` < 2", ["rating", "my score", "rate"])
    ['rating', 'my score']
    >>> named_in("kind == 'price'", ["kind", "price"])
    ['kind']
    """
    said = re.sub(r"'[^']*'|\"[^\"]*\"", "", condition or "")
    words = set(re.findall(r"`([^`]+)`|([A-Za-z_]\w*)", said))
    named = {word for pair in words for word in pair}
    return [name for name in columns if name in named]


def _kind(column: pd.Series[Any]) -> Kind:
    if pd.api.types.is_bool_dtype(column):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        known = column.dropna()
        whole = bool((known == known.round()).all())
        return "category" if whole and known.nunique() <= FEW else "number"
    return "tags" if separator(column) else "category"


def separator(column: pd.Series[Any]) -> str | None:
    """What stands between the values of cells, None where they hold one each.

    It must make fewer values of more: words of a name that hardly come again are no tags. Of lists, as
    `files.without_lists` writes them, it is theirs.
    """
    texts = column.dropna().astype(str)
    if texts.str.endswith(LIST).any():
        return LIST
    whole = texts.nunique()
    for mark in TAGS:
        several = texts.str.contains(mark, regex=False)
        if several.mean() > 0.1 and texts.str.split(mark).explode().nunique() < whole:
            return mark
    return None
