"""The interface of a model that judges, local or remote, and its reply."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from backend.core.messages import Message
from backend.judge.score import Status
from backend.remote.response import ReplyFormat, Token


@dataclass(frozen=True)
class JudgeReply:
    """The reply to a question. If `status` is "ok", `text` is the reply; else `why` has the reason in a sentence.

    Tokens, cost (dollars) and seconds are sums over all attempts, as far as they are known.
    """

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
    """A model that judges."""

    @property
    def together(self) -> int:
        """The number of concurrent questions."""
        ...

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        """Ask one question. `tokens`: the longest reply. `what`: the key of the question, for the ledger.

        Safe to call from several threads. Raises LabError for an error that stops the whole run, such as a wrong key,
        no credit, or a spending limit.
        """
        ...
