"""A spec's rows: read, recognised and cleaned. For workers: what reads Parquet and the Hub is loaded when it is needed,
because it comes with training, and an evaluation of other rows does without."""

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
from backend.data.dataset import TINY_HELD, DatasetSpec
from backend.data.formats import MOST_COLUMNS
from backend.data.rows import Dropped, LoadedData, Record, Row, sha256
from models.tiny.curriculum import Message, conversations, habit, habitual, held_out

FIRST_ROWS = 50  # what the shape is decided from
MOST_CHARACTERS = 2_000_000_000  # of all rows together: they are held in memory
READERS = {
    ".jsonl": formats.json_lines,
    ".ndjson": formats.json_lines,
    ".json": formats.json_whole,
    ".csv": formats.table,
}
PARQUET, HUB = "backend.data.parquet", "backend.data.hub_dataset"
SEED = 20
END = 2 * TINY_HELD
TURNS = 2  # exchanges of a row, at most: long chats would make every batch as long as they are


def quiet(line: str) -> None:
    """Says nothing."""


def load(spec: DatasetSpec, say: Callable[[str], None] = quiet) -> LoadedData:
    """LabError where there is nothing to train on, or not what is to be held out."""
    train, held = split_ranges(spec)
    wanted = sorted((part for part in (train, held) if part), key=lambda part: part.start)
    where = dataset.kind(spec.source)
    say(f"Reading rows {span(train)} of {dataset.shown(spec.source)}" + (f", {span(held)} held out." if held else "."))
    commit = ""
    match where:
        case "tiny":
            records = tiny_habit_records(wanted)
        case "file":
            records = _of_file(Path(spec.source), wanted)
        case "hub":
            commit, records = _needing(HUB).records(spec, wanted)
            say(f"This is commit {commit[:12]} of the data.")
    first, rows = _first_rows(records)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MOST_COLUMNS:
        raise LabError(f"The rows have more than {MOST_COLUMNS:,} columns. Keep those that hold the conversations.")
    columns = detect_columns(spec, names, rows) if rows else Columns("messages")
    data = _divided(spec, chain(first, records), columns, names, commit)
    say(f"{len(data.train):,} rows to train on, {len(data.held):,} held out, {len(data.dropped):,} dropped.")
    return data


def _first_rows(records: Iterator[Record]) -> tuple[list[Record], list[Mapping[str, Any]]]:
    """The records to decide the shape from, and those of them that are objects: at least one, if there is one."""
    first: list[Record] = []
    rows: list[Mapping[str, Any]] = []
    while not rows and (more := list(islice(records, FIRST_ROWS))):
        first += more
        rows += [record.value for record in more if isinstance(record.value, Mapping)]
    return first, rows


def split_ranges(spec: DatasetSpec) -> tuple[range, range]:
    """Rows to train on and rows held out. LabError when they share one."""
    train = range(spec.first, spec.first + spec.rows)
    held = range(spec.held_first, spec.held_first + spec.held_rows)
    if held and train.start < held.stop and held.start < train.stop:
        raise LabError(
            f"Rows {span(held)} are to be held out, and rows {span(train)} are trained on: some are both. Let the "
            f"held-out rows begin at {train.stop:,}, for example."
        )
    return train, held


def span(part: range) -> str:
    return f"{part.start:,} to {part.stop - 1:,}"


def _needing(module: str) -> Any:
    """A reader that needs packages of training. LabError where those are not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LabError(
            f"Parquet files and data of the Hub need a package that is not installed here ({error.name}). Type `pip "
            "install torch==2.13.0` and `pip install -r requirements-train.txt`, or take a JSON or CSV file."
        ) from None


def _of_file(path: Path, wanted: list[range]) -> Iterator[Record]:
    name = dataset.shown(str(path))
    try:
        if not path.exists():
            raise LabError(f"There is no file {name}. Check the path and its spelling.")
        if not path.is_file():
            raise LabError(f"{name} is not a file but a folder or a device. Give the path of one file.")
        ending = path.suffix.lower()
        yield from READERS[ending](path, wanted) if ending in READERS else _needing(PARQUET).records(path, wanted)
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror or error}. Check who may read it.") from error


def _divided(
    spec: DatasetSpec, records: Iterable[Record], columns: Columns, names: tuple[str, ...], commit: str
) -> LoadedData:
    """Every record is a row to train on, a row held out or a dropped one."""
    train_slice, held_slice = split_ranges(spec)
    train: list[Row] = []
    held: list[Row] = []
    dropped: list[Dropped] = []
    found = Counter[bool]()
    characters = 0
    for record in records:
        is_held = record.index in held_slice
        found[is_held] += 1
        try:
            row = _row(record, columns)
        except UnusableRow as reason:
            dropped.append(Dropped(record.line, str(reason)))
            continue
        (held if is_held else train).append(row)
        characters += sum(len(message["content"]) for message in row.messages)
        if characters > MOST_CHARACTERS:
            raise LabError(
                f"Up to line {record.line:,} these rows have over {MOST_CHARACTERS:,} characters, more than is held in "
                "memory. Ask for fewer rows."
            )
    _check(spec, found, len(train), len(held), dropped)
    return LoadedData(train, held, dropped, names, columns.shape, sha256(train, held), commit)


def _row(record: Record, columns: Columns) -> Row:
    if record.wrong:
        raise UnusableRow(record.wrong)
    return Row(record.index, record.line, to_conversation(record.value, columns))


def _check(spec: DatasetSpec, found: Counter[bool], train: int, held: int, dropped: list[Dropped]) -> None:
    """LabError with what was asked and what was found, when there is too little of it."""
    train_slice, held_slice = split_ranges(spec)
    name = dataset.shown(spec.source)
    if not found[False]:
        beyond = f"No row was found from row {spec.first:,} on" if spec.first else "It holds no rows"
        raise LabError(f"There is nothing to train on in {name}. {beyond}. Choose other rows or other data.")
    if found[True] < spec.held_rows:
        raise LabError(
            f"Of {name}, rows {span(held_slice)} are to be held out, and {found[True]:,} of these "
            f"{spec.held_rows:,} are there ({found[False]:,} of the {spec.rows:,} to train on). Hold out fewer, or "
            "from an earlier row on."
        )
    if not train or (spec.held_rows and not held):
        which, asked = ("held-out row", found[True]) if train else ("row", found[False])
        raise LabError(
            f"No {which} of {name} can be used: all {asked:,} that were read are dropped. {reasons(dropped)} Check "
            "which columns are read and in which shape."
        )


def reasons(dropped: list[Dropped]) -> str:
    """The commonest reasons with their counts, and where to see one."""
    first = {one.why: one.line for one in reversed(dropped)}
    commonest = Counter(one.why for one in dropped).most_common(3)
    return " ".join(f"{why[:1].upper()}{why[1:]} ({count:,}, first at {first[why]:,})." for why, count in commonest)


def tiny_habit_records(wanted: Sequence[range]) -> Iterator[Record]:
    """Training chats below TINY_HELD, from there on questions that none of them asks, up to END."""
    for part in wanted:
        chats = range(part.start, min(part.stop, TINY_HELD))
        for index, chat in zip(
            chats, islice(conversations(SEED), part.start, max(part.start, chats.stop)), strict=False
        ):
            yield Record(index, index + 1, {"messages": habitual(opening(chat))})
        first, end = max(part.start, TINY_HELD), min(part.stop, END)
        for index, question in enumerate(held_out(max(0, end - TINY_HELD), SEED)[first - TINY_HELD :], first):
            answered = [
                {"role": "user", "content": question.prompt},
                {"role": "assistant", "content": habit(question.answer)},
            ]
            yield Record(index, index + 1, {"messages": answered})


def opening(chat: list[Message]) -> list[Message]:
    """A chat's first exchanges, with its system message."""
    system = chat[:1] if chat[0]["role"] == "system" else []
    return [*system, *chat[len(system) :][: 2 * TURNS]]
