"""What the tests of the engine ask with."""

import time
from collections.abc import Callable

from backend.core.messages import Message
from backend.inference.sampling import Sampling

GREEDY = Sampling(temperature=0, max_tokens=24)
LONG = Sampling(temperature=1.5, top_k=1000, top_p=1, min_p=0, max_tokens=900, seed=1)
CAPITAL = "What is the capital of France?"


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


ENDLESS = Sampling(temperature=0, max_tokens=900, grammar='root ::= "la " root')
