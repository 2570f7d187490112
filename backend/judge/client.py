"""A question to a model that judges, whichever model that is, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from backend.core.messages import Message
from backend.judge.score import Status
from backend.remote.response import ReplyFormat, Token


@dataclass(frozen=True)
class JudgeReply:
    """What came of a question. With `status` ok there is a `text` to read; else `why` says in a sentence what
    happened. Tokens and dollars are of every attempt together, as far as they are known."""

    status: Status
    text: str = ""
    why: str = ""
    model: str = ""
    tokens: tuple[Token, ...] = field(default=(), repr=False)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    attempts: int = 1


class JudgeClient(Protocol):
    """A model that can be asked. LabError where going on makes no sense: a bad key, no credit, the cap reached."""

    @property
    def together(self) -> int:
        """How many questions may be under way at once."""
        ...

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        """`tokens`: the longest reply. `what`: the item's key, for the ledger. Safe to call from several threads."""
        ...
