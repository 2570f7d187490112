"""A conversation longer than the context: the oldest turns leave, and it is said how many."""

from collections.abc import Callable, Sequence

from backend.core.errors import LabError
from backend.core.messages import Message

Encode = Callable[[Sequence[Message]], list[int]]
TOO_LONG = "tokens, but this model's context holds"
"""Stands in the sentence that refuses a message for its length."""


def fit(messages: Sequence[Message], encode: Encode, context: int, max_tokens: int) -> tuple[list[int], int]:
    """The prompt's token ids and how many messages were left out; LabError if the newest alone is too long.

    The system message and the newest question stay. A quarter of the context at most is kept for the answer.
    """
    room = context - min(max_tokens, context // 4)
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    starts = [index for index, message in enumerate(turns) if message["role"] == "user"] or [0]
    starts[0] = 0
    low, high = 0, len(starts) - 1
    tokens = encode([*system, *turns])
    if len(tokens) <= room:
        return tokens, 0
    while low < high:  # the fewest turns that must leave; prompts only shrink as turns leave
        middle = (low + high) // 2
        fits = len(encode([*system, *turns[starts[middle] :]])) <= room
        low, high = (low, middle) if fits else (middle + 1, high)
    tokens = encode([*system, *turns[starts[low] :]])
    if len(tokens) > room:
        raise LabError(
            f"Your message needs {len(tokens):,} {TOO_LONG} {context:,}, of which "
            f"{context - room:,} are kept for the answer. Send a shorter message, or a part of it."
        )
    return tokens, starts[low]
