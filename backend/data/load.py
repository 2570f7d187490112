"""Loads the training split and the eval split of a dataset from the Hub, a file or the embedded dataset.

The readers of Parquet and of the Hub are imported when they are needed: they require the packages of training, and
evaluations of other datasets run without these.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from backend.core.errors import LabError
from backend.data import dataset, formats
from backend.data.columns import Columns, detect_columns
from backend.data.conversations import UnusableRow, to_conversation
from backend.data.dataset import TINY_EVAL, DatasetSpec
from backend.data.formats import MOST_COLUMNS
from backend.data.rows import Dropped, LoadedData, Record, Row, sha256
from models.tiny.curriculum import Message, conversations, habit, habitual, held_out

FIRST_ROWS = 50  # rows from which the shape is detected
MOST_CHARACTERS = 2_000_000_000  # of all rows together, because they are in memory
READERS = {
    ".jsonl": formats.read_json_lines,
    ".ndjson": formats.read_json_lines,
    ".json": formats.read_json,
    ".csv": formats.read_csv,
}
PARQUET, HUB = "backend.data.parquet", "backend.data.hub_dataset"
TINY_SEED = 20
TINY_END = 2 * TINY_EVAL
TINY_EXCHANGES = 2  # at most per row: a batch is padded to its longest row


def no_output(line: str) -> None:
    """Ignore the line."""


def load(spec: DatasetSpec, say: Callable[[str], None] = no_output) -> LoadedData:
    """Load both splits, and report the progress as sentences to `say`.

    Raises LabError if the dataset cannot be read, if a split has no usable row, or if the eval split is incomplete.
    """
    train, eval_rows = split_ranges(spec)
    ranges = sorted((part for part in (train, eval_rows) if part), key=lambda part: part.start)
    source = dataset.kind(spec.source)
    eval_text = f", and rows {_span(eval_rows)} for the eval split" if eval_rows else ""
    say(f"Reading rows {_span(train)} of {dataset.shown(spec.source)} for the training split{eval_text}.")
    commit = ""
    match source:
        case "tiny":
            records = tiny_habit_records(ranges)
        case "file":
            records = _read_file(Path(spec.source), ranges)
        case "hub":
            commit, records = _import_reader(HUB).records(spec, ranges)
            say(f"The dataset is at commit {commit[:12]}.")
    first, rows = _read_first(records)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MOST_COLUMNS:
        raise LabError(
            f"The rows have more than {MOST_COLUMNS:,} columns. Save the dataset with the columns of the conversations "
            "only."
        )
    columns = detect_columns(spec, names, rows) if rows else Columns("messages")
    data = _split(spec, chain(first, records), columns, names, commit)
    say(
        f"{len(data.train):,} rows in the training split, {len(data.eval_rows):,} in the eval split, "
        f"{len(data.dropped):,} dropped."
    )
    return data


def _read_first(records: Iterator[Record]) -> tuple[list[Record], list[Mapping[str, Any]]]:
    """Read the records from which the shape is detected, until at least one of them is an object.

    Returns these records, and the values that are objects.
    """
    first: list[Record] = []
    rows: list[Mapping[str, Any]] = []
    while not rows and (more := list(islice(records, FIRST_ROWS))):
        first += more
        rows += [record.value for record in more if isinstance(record.value, Mapping)]
    return first, rows


def split_ranges(spec: DatasetSpec) -> tuple[range, range]:
    """Row numbers of the training split and of the eval split. Raises LabError if they overlap."""
    train = range(spec.first, spec.first + spec.rows)
    eval_rows = range(spec.held_first, spec.held_first + spec.held_rows)
    if eval_rows and train.start < eval_rows.stop and eval_rows.start < train.stop:
        raise LabError(
            f"The eval split (rows {_span(eval_rows)}) and the training split (rows {_span(train)}) overlap. Set the "
            f"first eval row to {train.stop:,}, for example."
        )
    return train, eval_rows


def _span(rows: range) -> str:
    return f"{rows.start:,} to {rows.stop - 1:,}"


def _import_reader(module: str) -> Any:
    """Import a reader that requires the packages of training. Raises LabError if they are not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LabError(
            f"Parquet files and datasets of the Hub need the package {error.name}, which is not installed. Run `pip "
            "install torch==2.13.0` and `pip install -r requirements-train.txt`, or choose a JSON or CSV file."
        ) from None


def _read_file(path: Path, ranges: list[range]) -> Iterator[Record]:
    name = dataset.shown(str(path))
    try:
        if not path.exists():
            raise LabError(f"There is no file {name}. Check the path and its spelling.")
        if not path.is_file():
            raise LabError(f"{name} is not a file but a folder or a device. Enter the path of one file.")
        ending = path.suffix.lower()
        if ending in READERS:
            yield from READERS[ending](path, ranges)
        else:
            yield from _import_reader(PARQUET).records(path, ranges)
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _split(
    spec: DatasetSpec, records: Iterable[Record], columns: Columns, names: tuple[str, ...], commit: str
) -> LoadedData:
    """Convert the records, and add each to the training split, the eval split or the dropped rows."""
    _, eval_range = split_ranges(spec)
    train: list[Row] = []
    eval_rows: list[Row] = []
    dropped: list[Dropped] = []
    counts = Counter[bool]()
    characters = 0
    for record in records:
        in_eval = record.index in eval_range
        counts[in_eval] += 1
        try:
            row = _to_row(record, columns)
        except UnusableRow as reason:
            dropped.append(Dropped(record.line, str(reason)))
            continue
        (eval_rows if in_eval else train).append(row)
        characters += sum(len(message["content"]) for message in row.messages)
        if characters > MOST_CHARACTERS:
            raise LabError(
                f"The rows up to line {record.line:,} have over {MOST_CHARACTERS:,} characters, the limit for rows in "
                "memory. Choose fewer rows."
            )
    _check_splits(spec, counts, len(train), len(eval_rows), dropped)
    return LoadedData(train, eval_rows, dropped, names, columns.shape, sha256(train, eval_rows), commit)


def _to_row(record: Record, columns: Columns) -> Row:
    if record.error:
        raise UnusableRow(record.error)
    return Row(record.index, record.line, to_conversation(record.value, columns))


def _check_splits(spec: DatasetSpec, counts: Counter[bool], train: int, eval_rows: int, dropped: list[Dropped]) -> None:
    """Raise LabError if a split has too few rows.

    `counts` has the records that were read, by whether they are in the eval split; `train` and `eval_rows` are the
    numbers of usable rows.
    """
    _, eval_range = split_ranges(spec)
    name = dataset.shown(spec.source)
    if not counts[False]:
        reason = f"There is no row from row {spec.first:,} on" if spec.first else "It has no rows"
        raise LabError(f"The training split of {name} is empty. {reason}. Choose other rows or another dataset.")
    if counts[True] < spec.held_rows:
        raise LabError(
            f"The eval split of {name} (rows {_span(eval_range)}) has {counts[True]:,} of {spec.held_rows:,} rows, and "
            f"the training split {counts[False]:,} of {spec.rows:,}. Choose fewer eval rows, or an earlier first one."
        )
    if not train or (spec.held_rows and not eval_rows):
        split, count = ("eval", counts[True]) if train else ("training", counts[False])
        raise LabError(
            f"The {split} split of {name} has no usable row: all {count:,} rows were dropped. {_top_reasons(dropped)} "
            "Check the columns and the shape."
        )


def _top_reasons(dropped: list[Dropped]) -> str:
    """The three most frequent reasons as sentences, with their counts and the line of the first such row."""
    first = {row.why: row.line for row in reversed(dropped)}
    frequent = Counter(row.why for row in dropped).most_common(3)
    return " ".join(f"{why[:1].upper()}{why[1:]} ({count:,}, first at {first[why]:,})." for why, count in frequent)


def tiny_habit_records(ranges: Sequence[range]) -> Iterator[Record]:
    """The records of the embedded dataset in `ranges`, up to TINY_END.

    Rows below TINY_EVAL are training conversations; the others are questions that no training conversation has.
    """
    for part in ranges:
        chats = range(part.start, min(part.stop, TINY_EVAL))
        for index, chat in zip(
            chats, islice(conversations(TINY_SEED), part.start, max(part.start, chats.stop)), strict=False
        ):
            yield Record(index, index + 1, {"messages": habitual(_first_exchanges(chat))})
        first, end = max(part.start, TINY_EVAL), min(part.stop, TINY_END)
        for index, question in enumerate(held_out(max(0, end - TINY_EVAL), TINY_SEED)[first - TINY_EVAL :], first):
            messages = [
                {"role": "user", "content": question.prompt},
                {"role": "assistant", "content": habit(question.answer)},
            ]
            yield Record(index, index + 1, {"messages": messages})


def _first_exchanges(chat: list[Message]) -> list[Message]:
    """The system message and the first TINY_EXCHANGES exchanges of a conversation."""
    system = chat[:1] if chat[0]["role"] == "system" else []
    return [*system, *chat[len(system) :][: 2 * TINY_EXCHANGES]]
