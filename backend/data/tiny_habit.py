"""The rows of tiny_habit, made as they are asked for: the same ones on every machine."""

from collections.abc import Iterator, Sequence
from itertools import islice

from backend.data.dataset import TINY_HELD
from backend.data.rows import Record
from models.tiny.curriculum import Message, conversations, habit, habitual, held_out

SEED = 20
END = 2 * TINY_HELD
TURNS = 2  # exchanges of a row, at most: long chats would make every batch as long as they are


def records(wanted: Sequence[range]) -> Iterator[Record]:
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
