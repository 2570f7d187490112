"""The rows of tiny_habit, made as they are asked for: the same ones on every machine."""

from collections.abc import Iterator, Sequence
from itertools import islice

from backend.data.rows import Record
from backend.data.spec import TINY_HELD
from models.tiny.curriculum import conversations, habit, habitual, held_out

SEED = 20
END = 2 * TINY_HELD


def records(wanted: Sequence[range]) -> Iterator[Record]:
    """Training chats below TINY_HELD, from there on questions that none of them asks, up to END."""
    for part in wanted:
        chats = range(part.start, min(part.stop, TINY_HELD))
        for index, chat in zip(
            chats, islice(conversations(SEED), part.start, max(part.start, chats.stop)), strict=False
        ):
            yield Record(index, index + 1, {"messages": habitual(chat)})
        first, end = max(part.start, TINY_HELD), min(part.stop, END)
        for index, question in enumerate(held_out(max(0, end - TINY_HELD), SEED)[first - TINY_HELD :], first):
            answered = [
                {"role": "user", "content": question.prompt},
                {"role": "assistant", "content": habit(question.answer)},
            ]
            yield Record(index, index + 1, {"messages": answered})
