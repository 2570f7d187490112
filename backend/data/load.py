"""Loads the training split and the eval split of a dataset from the Hub, a file or the embedded dataset.

The readers of Parquet and of the Hub are imported when they are needed: they require the packages of training, and
evaluations of other datasets run without these.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from backend.core import machine
from backend.core.errors import LabError
from backend.core.units import amount
from backend.data import dataset, formats, text_files
from backend.data.columns import NAME_THEM, Columns, detect_columns
from backend.data.conversations import UnusableRow, to_row, unused_keys
from backend.data.dataset import TINY_EVAL, DatasetSpec
from backend.data.formats import MOST_COLUMNS
from backend.data.rows import Dropped, LoadedData, Record, Row, sha256
from models.tiny.curriculum import Message, conversations, habit, habitual, held_out

FIRST_ROWS = 50  # rows from which the shape is detected
MOST_CHARACTERS = 2_000_000_000  # of all rows together, because they are in memory
MOST_ROWS = 10_000_000
SMALLEST_MEMORY, SPARE_MEMORY = 500 << 20, 300 << 20
"""Bytes: what reading may use at least, and what it leaves to others. A small file can unpack to more than there is."""
NO_EVAL_SPLIT = "there is no eval split, because these are fewer than ten"
PARQUET, HUB = "backend.data.parquet", "backend.data.hub_dataset"
TINY_SEED = 20
TINY_END = 2 * TINY_EVAL
TINY_EXCHANGES = 2  # at most per row: a batch is padded to its longest row


def no_output(line: str) -> None:
    """Ignore the line."""


def load(spec: DatasetSpec, say: Callable[[str], None] = no_output, advice: str = NAME_THEM) -> LoadedData:
    """Load both splits, and report the progress as sentences to `say`. `advice`: see `detect_columns`.

    Raises LabError if the dataset cannot be read, if a split has no usable row, or if the eval split is incomplete.
    """
    try:
        with machine.memory_limit(max(SMALLEST_MEMORY, machine.memory_free() - SPARE_MEMORY)):
            return _load(spec, say, advice)
    except MemoryError as error:
        raise LabError(
            f"{dataset.shown(spec.source)} needs more memory than is free here ({amount(machine.memory_free())}). "
            "Choose fewer rows, or save it with the columns of the conversations only."
        ) from error


def _load(spec: DatasetSpec, say: Callable[[str], None], advice: str) -> LoadedData:
    train, eval_rows = split_ranges(spec)
    ranges = sorted((part for part in (train, eval_rows) if part), key=lambda part: part.start)
    source = dataset.kind(spec.source)
    eval_text = f", and rows {_span(eval_rows)} for the eval split" if eval_rows else ""
    rows_text = "all rows" if spec.splits == "all" else f"rows {_span(train)}"
    say(f"Reading {rows_text} of {dataset.shown(spec.source)} for the training split{eval_text}.")
    commit, notes = "", list[str]()
    match source:
        case "tiny":
            records = tiny_habit_records(ranges)
        case "file":
            how, records = _open_file(spec, ranges)
            notes.append(f"The file is read as {how}.")
        case "hub":
            commit, records = _import_reader(HUB).records(spec, ranges)
            say(f"The dataset is at commit {commit[:12]}.")
    first, rows = _read_first(records)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    _check_number_of_columns(len(names))
    columns = detect_columns(spec, names, rows, advice) if rows else Columns("messages")
    data = _split(spec, chain(first, records), columns, commit, notes)
    for note in data.notes:
        say(note)
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
    """Row numbers of the training split and of the eval split. Raises LabError if they overlap.

    With `splits` "all", the eval split is chosen later, when the number of rows is known.
    """
    if spec.splits == "all":
        return range(MOST_ROWS + 1), range(0)
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


def _open_file(spec: DatasetSpec, ranges: list[range]) -> tuple[str, Iterator[Record]]:
    """How the file is read, for people, and its records."""
    path = Path(spec.source)
    name = dataset.shown(spec.source)
    with _readable_errors(name):
        if not path.exists():
            raise LabError(f"There is no file {name}. Check the path and its spelling.")
        if not path.is_file():
            raise LabError(f"{name} is not a file but a folder or a device. Enter the path of one file.")
        empty_parquet = path.suffix.lower() == ".parquet" and not path.stat().st_size
        if text_files.is_parquet(path) or empty_parquet:
            return "Parquet", _guarded(_import_reader(PARQUET).records(path, ranges), name)
        file = text_files.describe(path, spec.encoding)
        return formats.read_format(file), _guarded(formats.read_records(file, ranges), name)


def _guarded(records: Iterator[Record], name: str) -> Iterator[Record]:
    with _readable_errors(name):
        yield from records


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror or error}. Check its permissions.") from error


def _split(spec: DatasetSpec, records: Iterable[Record], columns: Columns, commit: str, notes: list[str]) -> LoadedData:
    """Convert the records, and add each to the training split, the eval split or the dropped rows."""
    rows, dropped, numbers, names = list[Row](), list[Dropped](), list[int](), dict[str, None]()
    unused, characters = Counter[str](), 0
    for record in records:
        numbers.append(record.index)
        if isinstance(record.value, Mapping) and len({*names, *record.value}) <= MOST_COLUMNS:
            names.update(dict.fromkeys(record.value))
        try:
            row = to_row(record, columns)
        except UnusableRow as reason:
            dropped.append(Dropped(record.line, str(reason), record.text))
            continue
        unused.update(key for key in unused_keys(record.value, columns) if key in unused or len(unused) < MOST_COLUMNS)
        rows.append(row)
        if len(numbers) > MOST_ROWS:
            raise LabError(f"The dataset has more than {MOST_ROWS:,} rows. Choose its rows by numbers.")
        characters += sum(len(message["content"]) for message in row.messages)
        if characters > MOST_CHARACTERS:
            raise LabError(
                f"The rows up to line {record.line:,} have over {MOST_CHARACTERS:,} characters, the limit for rows in "
                "memory. Choose fewer rows."
            )
    chosen = choose_rows(spec, [row.index for row in rows], len(numbers))
    _, eval_range = split_ranges(chosen)
    train = [row for row in rows if row.index not in eval_range]
    eval_rows = [row for row in rows if row.index in eval_range]
    counts = Counter(number in eval_range for number in numbers)
    _check_splits(chosen, counts, len(train), len(eval_rows), dropped)
    notes += _notes(spec, chosen, unused, len(rows), len(eval_rows))
    sha = sha256(train, eval_rows)
    return LoadedData(chosen, train, eval_rows, dropped, tuple(names), tuple(notes), columns.shape, sha, commit)


def choose_rows(spec: DatasetSpec, usable: Sequence[int], total: int) -> DatasetSpec:
    """The numbers of the rows of both splits, if all rows of the dataset are used; otherwise those of `spec`.

    `usable` are the numbers of the rows that are not dropped, of `total` rows. The eval split is a tenth of up to 200
    of them, above that 20 rows or 5 %. Fewer than ten have no eval split.
    """
    if spec.splits != "all" or not usable:
        return spec
    rows = len(usable)
    held = 0 if rows < 10 else rows // 10 if rows <= 200 else max(20, -(-rows // 20))
    start = usable[-held] if held else total
    numbers = {"first": 0, "rows": start, "held_first": start, "held_rows": total - start}
    return spec.model_copy(update={"splits": "numbers", **numbers})


def _notes(spec: DatasetSpec, chosen: DatasetSpec, unused: Counter[str], rows: int, held: int) -> list[str]:
    """Sentences on the split that was chosen, and on what is not used."""
    notes = []
    if spec.splits == "all" and rows:
        text = f"the eval split has the last {held:,} of them" if held else NO_EVAL_SPLIT
        notes.append(f"Of all {chosen.rows + chosen.held_rows:,} rows, {rows:,} are usable; {text}.")
    if unused:
        names = [
            dataset.shown(name) + ("" if count == rows else f" ({count:,} of {rows:,} rows)")
            for name, count in sorted(unused.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
        ]
        more = f" and {len(unused) - 20:,} more" if len(unused) > 20 else ""
        notes.append(f"Columns and keys that are not used: {', '.join(names)}{more}.")
    return notes


def _check_number_of_columns(columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise LabError(
            f"The rows have more than {MOST_COLUMNS:,} columns. Save the dataset with the columns of the conversations "
            "only."
        )


def _check_splits(spec: DatasetSpec, counts: Counter[bool], train: int, eval_rows: int, dropped: list[Dropped]) -> None:
    """Raise LabError if a split has too few rows.

    `counts` has the records that were read, by whether they are in the eval split; `train` and `eval_rows` are the
    numbers of usable rows.
    """
    _, eval_range = split_ranges(spec)
    name = dataset.shown(spec.source)
    training = f"The training split of {name}" if eval_range else name  # an evaluation has no splits
    if not counts[False]:
        reason = f"There is no row from row {spec.first:,} on" if spec.first else "It has no rows"
        raise LabError(f"{training} is empty. {reason}. Choose other rows or another dataset.")
    if counts[True] < spec.held_rows:
        raise LabError(
            f"The eval split of {name} (rows {_span(eval_range)}) has {counts[True]:,} of {spec.held_rows:,} rows, and "
            f"the training split {counts[False]:,} of {spec.rows:,}. Choose fewer eval rows, an earlier first one, or "
            "“all” under “Choice of rows”."
        )
    if not train or (spec.held_rows and not eval_rows):
        split, count = (f"The eval split of {name}", counts[True]) if train else (training, counts[False])
        raise LabError(
            f"{split} has no usable row: all {count:,} rows were dropped. {_top_reasons(dropped)} Correct these rows, "
            "or choose other rows."
        )


def _top_reasons(dropped: list[Dropped]) -> str:
    """The three most frequent reasons as sentences, with their counts, and the line and text of the first such row."""
    first = {row.why: row for row in reversed(dropped)}
    frequent = Counter(row.why for row in dropped).most_common(3)
    return " ".join(
        f"{why[:1].upper()}{why[1:]} ({count:,}, first at line {first[why].line:,}"
        f"{f': {first[why].text}' if first[why].text else ''})."
        for why, count in frequent
    )


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
