"""Run a user's own stream: predict each row, then learn its label."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from signal import SIGTERM, default_int_handler, signal
from typing import Any, TextIO

import pandas as pd
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.common.files import check_out, check_place, replacing
from apps.common.frames import read_frame
from apps.common.runs import find_run, load_checkpoint
from apps.drift.data import APP
from apps.drift.learner import Learner, Said
from apps.drift.schema import Row, as_text, is_missing

Meet = Callable[[Sequence[Row]], None]
"""Tells a learner from rows what columns there are."""
CLASSES = 32
"""Labels that there is room for, where nobody says how many."""
FIRST = 1000
"""Rows of a file that tell what kind each column is."""
LATE = 1000
"""Rows of which the running accuracy tells."""


def predict(
    input: Path,
    out: Path = Path("predictions.csv"),
    run: Path | None = None,
    target: str | None = None,
    state: Path | None = None,
    drop: list[str] | None = None,
    chunk: int | None = None,
    classes: int | None = None,
    sensitive: str | None = None,
    categories: list[str] | None = None,
    cycles: dict[str, float] | None = None,
) -> None:
    """Predict every row of a stream before its label is learned, and learn on.

    Args:
        input: CSV or parquet in the order of the stream; or - for one JSON object a line on standard input,
            answered by one on standard output.
        out: CSV to write, a row for each row of a file; not written for standard input.
        run: a trained run, runs/drift/<config>/<n>, to begin with; by default nothing is known at first.
        target: column of the labels; rows that lack it are predicted and not learned.
        state: file to go on from, if it is there, and to keep what was learned in; none by default. Of a file
            it is written with the predictions, or not at all; of standard input when that ends or is stopped.
        drop: columns to leave out.
        chunk: rows that are learned together, in one step of the gradient: 16 of a file, where of these rows
            the later ones know the earlier ones but for that step; 1 of standard input, where a row is known
            when its chunk is full. More are faster.
        classes: how many labels there may be: 32, unless a run or a state says it.
        sensitive: column of the groups, which is no feature; a run or a state brings its own. It is written
            beside each prediction, and a model that keeps to fairness learns by it.
        categories: columns of numbers that are codes, and are read as words are; a run or a state knows its
            own, as of the next.
        cycles: columns of numbers that come round, each with the length of its cycle, as {hour: 24}.
    """
    chunk = chunk if chunk is not None else 1 if str(input) == "-" else 16
    if chunk < 1:
        raise UserError(f"--chunk is {chunk}: learn at least 1 row at a time.")
    _check_places(input, out, state, run)
    learner = _learner(state, run, target, classes, sensitive)
    if learner.target is None and not learner.rows:
        raise UserError("there is nothing to learn from: name the column of the labels, --target.")
    meet = partial(learner.meet, categories=categories or [], cycles=cycles)
    if str(input) != "-":
        _run_file(learner, meet, input, out, chunk, drop or [])
        _keep(learner, state)
        return
    before = signal(SIGTERM, default_int_handler)  # how a service is stopped
    try:
        _answer(learner, meet, getattr(sys.stdin, "buffer", sys.stdin), sys.stdout, chunk, drop or [])
    except BrokenPipeError:  # nobody reads the answers any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:  # a stream seldom ends by itself
        for note in learner.notes():
            print(f"note: {note}.", file=sys.stderr)
        _keep(learner, state)
        signal(SIGTERM, before)


def _keep(learner: Learner, state: Path | None) -> None:
    if state is not None and learner.rows:
        learner.save(state)
        print(f"State after {learner.rows:,} rows: {state}", file=sys.stderr)


def _check_places(input: Path, out: Path, state: Path | None, run: Path | None) -> None:
    if str(input) != "-":
        check_out(out, input)
        check_place(out)
    if state is None:
        return
    if state.is_dir():
        raise UserError(f"{state} is a folder: name a file for the state.")
    if state.resolve() in (out.resolve(), input.resolve()):
        raise UserError(f"{state} is the input or the output as well: name another file for the state.")
    if run is not None and state.is_file():
        raise UserError(f"{state} is there, so that {run} would not be read: leave one of the two out.")
    check_place(state)


def _learner(
    state: Path | None, run: Path | None, target: str | None, classes: int | None, sensitive: str | None
) -> Learner:
    if state is not None and state.is_file():
        learner = _with_groups(_with_room(Learner.load(state), classes, state), sensitive, state)
        learner.target = learner.target or target
        if target not in (None, learner.target):
            raise UserError(f"{state} was learned with the target {learner.target}: name another state.")
        return learner
    if run is not None:
        learner = _with_groups(_with_room(_of_run(run), classes, run), sensitive, run)
        if target not in (None, learner.target):
            raise UserError(f"{run} was trained on the target {learner.target}: leave out --target.")
        return learner
    default = project_root() / "configs" / APP / "default.yaml"
    model = yaml.safe_load(default.read_text(encoding="utf-8"))["model"]
    room = CLASSES if classes is None else classes
    return Learner(model["network"], target, room, model["learning_rate"], sensitive=sensitive)


def _with_room(learner: Learner, classes: int | None, source: Path) -> Learner:
    room = learner.labels.capacity
    if classes not in (None, room):
        raise UserError(f"{source} has room for {room} labels, and no more can be made: leave out --classes.")
    return learner


def _with_groups(learner: Learner, sensitive: str | None, source: Path) -> Learner:
    if sensitive not in (None, learner.sensitive):
        known = learner.sensitive or "no column"
        raise UserError(f"{source} was learned with groups by {known}: leave out --sensitive.")
    return learner


def _of_run(path: Path) -> Learner:
    found = find_run(APP, path)
    return Learner.from_run(found, load_checkpoint(found.best, APP))


def _run_file(learner: Learner, meet: Meet, input: Path, out: Path, chunk: int, drop: Sequence[str]) -> None:
    frame = read_frame(input)
    if absent := [name for name in drop if name not in frame]:
        raise UserError(f"{input} has no column {absent[0]!r} to drop: it has {', '.join(frame.columns)}.")
    frame = frame.drop(columns=list(drop))
    if learner.target is not None and learner.target not in frame and not learner.rows:
        raise UserError(
            f"{input} has no column {learner.target!r}: it has {', '.join(frame.columns)}; name that of the "
            "labels, --target, or go on from a run or a state to predict alone."
        )
    rows = [{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]
    meet(rows[:FIRST])
    assert learner.schema is not None
    known = [column.name for column in learner.schema.columns]
    if not set(known) & set(frame):
        raise UserError(f"{input} has no column that was learned from: {', '.join(known)}.")
    learner.schema.check(rows)
    table: list[dict[str, Any]] = []
    hits: list[bool] = []
    with _progress() as progress:
        bar = progress.add_task("", total=len(rows))
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            labels = [row.get(learner.target or "") for row in some]
            said = learner.learn(some, labels)
            for i, label in enumerate(labels):
                table.append(_line(learner, said, i, some[i]))
                if not is_missing(label):
                    hits.append(table[-1]["prediction"] == as_text(learner.label(label)))
            late = hits[-LATE:]
            told = f"accuracy {sum(late) / len(late):.3f}" if late else "no label yet"
            progress.update(bar, advance=len(some), description=told)
    written = pd.DataFrame(table)
    shares = [f"p_{name}" for name in learner.labels.names]
    told_of = ["prediction", "trusts", *(["group"] if learner.sensitive else [])]
    written = written.reindex(columns=[*told_of, *shares]).fillna(dict.fromkeys(shares, 0.0))
    with replacing(out) as temporary:
        written.to_csv(temporary, index=False)
    for note in learner.notes():
        print(f"note: {note}.")
    if blank := sum(is_missing(row.get(learner.target or "")) for row in rows):
        print(f"note: {blank:,} rows have no label, and were not learned.")
    share = f", {sum(hits) / len(hits):.4f} of {len(hits):,} labels right" if hits else ""
    print(f"{len(rows):,} rows{share}: {out}")


def _answer(
    learner: Learner,
    meet: Meet,
    lines: Iterable[str | bytes],
    answers: TextIO,
    chunk: int,
    drop: Sequence[str],
) -> None:
    """Answer each line, and learn the labels of every `chunk` rows that have one."""
    waiting: list[Row] = []
    try:
        for number, row in _objects(lines):
            try:
                answer = _answer_one(learner, meet, number, row, drop)
            except UserError as fault:
                answer = {"error": f"line {number} is not learned: {fault}"}
            print(json.dumps(answer), file=answers, flush=True)
            if row is not None and "error" not in answer and learner.target is not None:
                waiting += [row] if not is_missing(row.get(learner.target)) else []
            if len(waiting) == chunk:
                some, waiting = waiting, []
                _teach(learner, some)
    finally:
        _teach(learner, waiting)


def _answer_one(
    learner: Learner, meet: Meet, number: int, row: Row | None, drop: Sequence[str]
) -> dict[str, Any]:
    """What is told of the object of a line. Raises `UserError` where nothing can be."""
    if row is None:
        return {"error": f"line {number} is no JSON object, and is not learned"}
    row = {name: cell for name, cell in row.items() if name not in drop}
    meet([row])
    assert learner.schema is not None
    answer = _line(learner, learner.say([row]), 0, row)
    learner.labels.encode([learner.label(row.get(learner.target or ""))])
    learner.groups.encode([row.get(learner.sensitive or "")])
    learner.schema.check([row])
    return answer


def _teach(learner: Learner, rows: Sequence[Row]) -> None:
    if rows:
        learner.learn(rows, [row[learner.target or ""] for row in rows])


def _objects(lines: Iterable[str | bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The number of each line that is not blank, and its object; None where it holds none."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # of bytes, a ValueError where they are no text
                row = None
            yield number, row if isinstance(row, dict) else None


def _line(learner: Learner, said: Said, place: int, row: Row) -> dict[str, Any]:
    """What is told of one row, which stands at that place of what was said."""
    probs = said.probs[place].tolist()
    shares = {f"p_{name}": round(p, 6) for name, p in zip(learner.labels.names, probs, strict=False)}
    best = max(range(len(probs)), key=probs.__getitem__) if any(probs) else None
    trusted = learner.network.expert_names[int(said.trust[place].argmax())]
    cell = row.get(learner.sensitive or "")
    group = {"group": None if is_missing(cell) else as_text(cell)} if learner.sensitive else {}
    return {
        "prediction": None if best is None else learner.labels.name(best),
        "trusts": trusted,
        **group,
        **shares,
    }


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True)
