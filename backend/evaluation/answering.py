"""Reads the rows of an evaluation and generates the answers of its variants.

A base and its adapters share one engine with one context. So the answers are generated in blocks of rows, and within a
block one variant after another: after a stop, the blocks that are done can be compared. Each variant uses its own chat
template. A row that occurs twice is answered once if its answer cannot differ.
"""

import json
from collections import Counter, deque
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

AHEAD, BLOCK = 3, 4
"""Per slot of an engine: questions sent to it, so that no slot is idle between two questions; and rows of a block."""
RENAME_THEM = "Rename the columns in the file, the prompt to question and the answer to reference, and upload it again."
MOST_WAITING = 1000
TEMPLATE_TOKENS, ROLE_TOKENS, LETTERS = 256, 16, 3
"""To estimate the tokens of a row: those of a chat template and of each message, and ASCII characters per token."""
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
    data = load(request.data, say, RENAME_THEM)
    rows = data.eval_rows if request.part == "held" else data.train
    leaked = {row.index for _, row in overlap(data.train, data.eval_rows)} if request.part == "held" else set()
    good = [row for row in rows if len(row.messages) - 1 not in row.masked]
    if len(good) < len(rows):
        say(
            f"{len(rows) - len(good):,} rows are left out: the weight of their last answer is 0, so it is no reference."
        )
    usable = [row for row in good if not any("tool_calls" in message for message in row.messages)]
    if len(usable) < len(good):
        say(f"{len(good) - len(usable):,} rows with tool calls are left out: variants are asked without tools.")
    questions = [_question(row, row.index in leaked) for row in usable]
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
    places = {question.id: place for place, question in enumerate(questions)}
    total, done, tokens = len(questions) * len(chosen), len(known), 0
    for group in _groups(chosen):
        todo = [
            (question, entry)
            for entry in group
            for question in questions
            if (question.id, entry.variant.id) not in known
        ]
        context = _context_needed(request, [question for question, _ in todo])
        while todo:
            too_long = []
            engines = engines_for(request, group, len({question.id for question, _ in todo}), context)
            todo.sort(key=lambda pair: places[pair[0].id] // (BLOCK * engines.slots))
            try:
                for question, entry, reply, repeated in _replies(request, todo, engines, context):
                    answer = _answer(question, entry, reply)
                    if context < request.context and _filled_context(reply):
                        too_long.append((question, entry))
                        continue
                    jsonl.append(folder / records.ANSWERS, answer.model_dump(mode="json"))
                    done, tokens = done + 1, tokens + (0 if repeated else answer.tokens)
                    say(done, total, tokens)
            finally:
                engines.close()
            if too_long:
                print(f"{len(too_long)} answers need more than {context:,} tokens and are generated again.")
            todo, context = too_long, request.context


def _context_needed(request: EvaluateRequest, questions: Sequence[Question]) -> int:
    """Estimate a context that holds every row and its answer, in tokens; at most that of the request.

    A smaller context leaves memory for more slots, and is made faster. A row for which the estimate is too small is
    answered again with the context of the request.
    """
    longest = max((sum(map(_tokens, _messages(question, request.system))) for question in questions), default=0)
    needed = longest + TEMPLATE_TOKENS + request.sampling.max_tokens
    return min(request.context, -(-needed // 256) * 256)


def _tokens(message: Message) -> int:
    """An estimate, rather too high: few languages need more than a token for a byte that is not ASCII."""
    text = message["content"]
    letters = sum(map(str.isascii, text))
    return ROLE_TOKENS + letters // LETTERS + len(text.encode("utf-8", "replace")) - letters


def _filled_context(reply: Reply) -> bool:
    """Whether a longer context could change this answer."""
    generation = reply.generation
    return reply.code == "too_long" or (
        generation is not None and (generation.end == "context" or bool(generation.left_out))
    )


def engines_for(request: EvaluateRequest, group: Sequence[Entry], together: int, context: int) -> Engines:
    """Engines for this process, with as many slots as fit into memory, and no more than `together`.

    More slots answer faster: one pass over the weights serves all of them.
    """
    most = max(1, min(request.slots, together))
    slots = next((n for n in range(most, 1, -1) if _fits(request, group, n, context)), 1)
    settings = Settings(
        _env_file=None,
        lab_weights=Path(request.weights),
        lab_context=context,
        lab_slots=slots,
        lab_waiting=MOST_WAITING,
        lab_threads=request.threads,
    )
    return Engines(settings, lambda file, how: None, throughput=True)


def _fits(request: EvaluateRequest, group: Sequence[Entry], slots: int, context: int) -> bool:
    header = group[0].base_header or group[0].header
    files = [group[0].model, *(entry.adapter for entry in group)]
    size = sum(file.stat().st_size for file in files if file)
    free = machine.memory_free() - memory.SPARE
    return header is None or memory.memory_need(header, size, context, slots, throughput=True).total < free


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


def _replies(
    request: EvaluateRequest, todo: Sequence[tuple[Question, Entry]], engines: Engines, context: int
) -> Iterator[tuple[Question, Entry, Reply, bool]]:
    """Replies in the order of `todo`, and whether it is the reply of an earlier row with the same messages. Several
    questions are in flight, so that the batch stays full."""
    in_flight: deque[tuple[Question, Entry, Reply, bool]] = deque()
    repeatable = request.sampling.temperature == 0 or request.sampling.seed >= 0
    keys = [_key(request, *pair) if repeatable else str(number) for number, pair in enumerate(todo)]
    left = deque(zip(keys, todo, strict=True))
    ahead = AHEAD * engines.slots
    count = Counter(keys)
    if repeats := len(keys) - len(count):
        print(f"{repeats} answers are those of earlier rows with the same messages.")
    replies: dict[str, Reply] = {}  # of rows that occur more than once
    while left or in_flight:
        while left and len(in_flight) < ahead:
            key, (question, entry) = left.popleft()
            repeated = key in replies
            reply = replies[key] if repeated else _start(request, question, entry, engines, context)
            if count[key] > 1:
                replies[key] = reply
            in_flight.append((question, entry, reply, repeated))
        yield in_flight.popleft()


def _key(request: EvaluateRequest, question: Question, entry: Entry) -> str:
    return json.dumps([entry.variant.id, _messages(question, request.system)])


def _start(request: EvaluateRequest, question: Question, entry: Entry, engines: Engines, context: int) -> Reply:
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
        placement.model_spec(entry, context), messages, request.sampling, placement.prompt_format(entry)
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
