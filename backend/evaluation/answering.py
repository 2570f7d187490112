"""Reads the rows of an evaluation and generates the answers of its variants.

A base and its adapters share one engine, and their answers are generated row by row: after a stop, the rows that are
done can be compared. Each variant uses its own chat template.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backend.core import jsonl, machine
from backend.core.errors import LabError
from backend.core.files import write_atomic
from backend.core.messages import Message, clean
from backend.core.settings import Settings
from backend.data.load import load
from backend.data.rows import Row, overlap
from backend.evaluation import imported_answers, records
from backend.evaluation.records import Answer, Question
from backend.evaluation.request import EvaluateRequest
from backend.inference import memory, placement
from backend.inference.engines import Engines
from backend.inference.reply import Reply
from models.catalogue import Entry, list_variants

AHEAD = 3
"""Questions sent to an engine per slot, so that no slot is idle between two questions."""
Say = Callable[[int, int, int], None]


def read_questions(request: EvaluateRequest, folder: Path, say: Callable[[str], None]) -> list[Question]:
    """The rows that the run stored at its first start; if there are none yet, read and store them. Raises LabError if
    there are no rows."""
    if known := records.questions(folder):
        return known
    if request.given:
        questions, answered = imported_answers.load(Path(request.given))
        _write_answers(folder, answered)
    else:
        questions = _of_data(request, say)
    write_atomic(folder / records.ROWS, "".join(item.model_dump_json() + "\n" for item in questions))
    return questions


def _of_data(request: EvaluateRequest, say: Callable[[str], None]) -> list[Question]:
    assert request.data
    data = load(request.data, say)
    rows = data.eval_rows if request.part == "held" else data.train
    leaked = {row.index for _, row in overlap(data.train, data.eval_rows)} if request.part == "held" else set()
    questions = [_question(row, row.index in leaked) for row in rows if row.messages[-1]["role"] == "assistant"]
    if not questions:
        raise LabError("None of these rows has an answer to compare with. Choose other rows.")
    return questions


def _question(row: Row, leaked: bool) -> Question:
    messages = list(row.messages[:-1])
    return Question(
        id=str(row.index),
        cluster=records.cluster(messages),
        messages=messages,
        reference=row.messages[-1]["content"],
        leaked=leaked,
    )


def _write_answers(folder: Path, answered: list[Answer]) -> None:
    (folder / records.ANSWERS).unlink(missing_ok=True)
    for answer in answered:
        jsonl.append(folder / records.ANSWERS, answer.model_dump(mode="json"))


def generate_answers(request: EvaluateRequest, questions: Sequence[Question], folder: Path, say: Say) -> None:
    """Generate the missing answers. `say` is called with the number of answers, the total, and the generated tokens.

    An answer that fails is stored with its error, and generated again on resume. Raises LabError if a variant cannot
    run.
    """
    entries = {entry.variant.id: entry for entry in list_variants(Path(request.weights))}
    chosen = [_entry(entries, name) for name in request.variants]
    used = {entry.variant.id: entry.variant.model_dump() for entry in chosen}
    write_atomic(folder / records.VARIANTS, json.dumps(used) + "\n")
    known = {key for key, answer in records.answers(folder).items() if not answer.error}
    total, done, tokens = len(questions) * len(chosen), len(known), 0
    for group in _groups(chosen):
        todo = [
            (question, entry)
            for question in questions
            for entry in group
            if (question.id, entry.variant.id) not in known
        ]
        if not todo:
            continue
        engines = engines_for(request, group)
        try:
            for answer in _answers(request, todo, engines):
                jsonl.append(folder / records.ANSWERS, answer.model_dump(mode="json"))
                done, tokens = done + 1, tokens + answer.tokens
                say(done, total, tokens)
        finally:
            engines.close()


def engines_for(request: EvaluateRequest, group: Sequence[Entry]) -> Engines:
    """Engines for this process, with as many slots as fit into memory."""
    slots = next((n for n in (request.slots, 4, 2) if n <= request.slots and _fits(request, group, n)), 1)
    settings = Settings(
        _env_file=None,
        lab_weights=Path(request.weights),
        lab_context=request.context,
        lab_slots=slots,
        lab_waiting=1000,
        lab_threads=request.threads,
    )
    return Engines(settings, lambda file, how: None)


def _fits(request: EvaluateRequest, group: Sequence[Entry], slots: int) -> bool:
    wanted = 0
    for place, entry in enumerate(group):
        header = entry.base_header or entry.header
        size = sum(file.stat().st_size for file in (entry.model if not place else None, entry.adapter) if file)
        if header:
            wanted += memory.memory_need(header, size, request.context, slots, process=not place).total
    return wanted < machine.memory_free() - memory.SPARE


def _entry(entries: dict[str, Entry], name: str) -> Entry:
    entry = entries.get(name)
    if entry is None or not entry.runs:
        why = f"it is {entry.state}" if entry else "it is not there any more"
        raise LabError(f"{name} cannot answer: {why}. Get it in the Library, or evaluate without it.")
    return entry


def _groups(chosen: Sequence[Entry]) -> list[list[Entry]]:
    """Variants grouped by their weights, in the order of the first variant of each group."""
    groups: dict[tuple[str, Path | None], list[Entry]] = {}
    for entry in chosen:
        groups.setdefault((entry.variant.runtime, entry.model), []).append(entry)
    return list(groups.values())


def _answers(request: EvaluateRequest, todo: Sequence[tuple[Question, Entry]], engines: Engines) -> Iterator[Answer]:
    """Answers in the order of `todo`. Several questions are in flight, so that the batch stays full."""
    in_flight: deque[tuple[Question, Entry, Reply]] = deque()
    left = deque(todo)
    ahead = AHEAD * request.slots * len({entry.variant.id for _, entry in todo})
    while left or in_flight:
        while left and len(in_flight) < ahead:
            question, entry = left.popleft()
            in_flight.append((question, entry, _start(request, question, entry, engines)))
        question, entry, reply = in_flight.popleft()
        yield _answer(question, entry, reply)


def _start(request: EvaluateRequest, question: Question, entry: Entry, engines: Engines) -> Reply:
    """Start one answer. A question that no model can be sent is a failed reply. Raises LabError if the model cannot
    run, which ends the evaluation."""
    messages = _messages(question, request.system)
    try:
        clean(messages)
    except LabError as error:
        reply = Reply(stop=lambda: None)
        reply.fail(error.code, str(error))
        return reply
    return engines.reply(
        placement.model_spec(entry, request.context), messages, request.sampling, placement.prompt_format(entry)
    )


def _messages(question: Question, system: str) -> list[Message]:
    """The messages of a row. The system prompt of the evaluation is added if the row has none."""
    if not system.strip() or question.messages[0]["role"] == "system":
        return question.messages
    return [Message(role="system", content=system), *question.messages]


def _answer(question: Question, entry: Entry, reply: Reply) -> Answer:
    row, variant = question.id, entry.variant.id
    try:
        text = reply.text()
    except LabError as error:
        return Answer(row=row, variant=variant, text=reply.so_far, error=str(error))
    generation = reply.generation
    if generation is None:
        return Answer(row=row, variant=variant, error="It ended without a word of how.")
    if generation.left_out or (generation.end == "context" and not generation.tokens):
        why = (
            f"The row does not fit into the context of {generation.context_size:,} tokens. Evaluate with a longer one."
        )
        return Answer(row=row, variant=variant, text=text, error=why)
    return Answer(
        row=row,
        variant=variant,
        text=text,
        end=generation.end,
        tokens=generation.tokens,
        seconds=generation.seconds,
        generation=generation,
    )
