"""A judge behind an OpenAI-compatible address, as an Asker. For workers only."""

from collections.abc import Sequence

from backend.core.messages import Message
from backend.judge.client import JudgeReply
from backend.judge.score import Status
from backend.remote.address import at_once
from backend.remote.capabilities import Capabilities
from backend.remote.client import TIMEOUT, ApiClient, ApiReply
from backend.remote.errors import Kind
from backend.remote.response import ReplyFormat, ResponseBody
from backend.remote.retry import LONGEST, PAUSE, RetryPolicy

_STATUS: dict[Kind, Status] = {"context": "over_context", "timed_out": "timed_out"}


class RemoteJudge:
    """Asks with what was negotiated, and tells what came back. `together`: how many at once, by the address if 0."""

    def __init__(
        self,
        line: ApiClient,
        agreed: Capabilities,
        together: int = 0,
        pause: float = PAUSE,
        timeout: float = TIMEOUT,
        longest: float = LONGEST,
    ) -> None:
        self.together = together or at_once(line.address)
        self._agreed = agreed
        self._patience = RetryPolicy(line, pause, timeout, longest)

    @property
    def waiting_until(self) -> float:
        """When asking goes on after a limit of rate, in seconds since 1970; 0 when nobody waits."""
        return self._patience.waiting_until

    def let_go(self) -> None:
        """Questions that wait end as cancelled; those under way may still be answered."""
        self._patience.let_go()

    def close(self) -> None:
        """Those under way end as cancelled, too."""
        self._patience.close()

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        outcome = self._patience.ask(self._agreed.asked(messages, form, tokens), what)
        told, seconds, attempts = outcome.told, outcome.seconds, outcome.attempts
        if told is None:
            return JudgeReply("cancelled", why="Stopped before it was answered.", seconds=seconds, attempts=attempts)
        if not isinstance(told, ApiReply):
            status = _STATUS.get(told.kind, "api_error")
            return JudgeReply(status, why=told.why, seconds=seconds, attempts=attempts)
        status, why = self._judged(told.body)
        return JudgeReply(
            status=status,
            text=told.body.text or "",
            why=why,
            model=told.body.model,
            tokens=told.body.tokens,
            tokens_in=told.tokens_in,
            tokens_out=told.tokens_out,
            cost=told.cost,
            seconds=seconds,
            attempts=attempts,
        )

    def _judged(self, body: ResponseBody) -> tuple[Status, str]:
        """What a reply is worth, before its text is looked at."""
        asked = self._agreed.returned
        if body.model and asked and body.model != asked:
            return "other_model", f"{body.model} answered, but this run's judge is {asked}."
        match body.finish:
            case "length":
                return "judge_truncated", "The judge's reply was cut off at its limit."
            case "content_filter":
                return "filtered", "A content filter at the judge's address withheld the reply."
            case "error":
                return "api_error", "The judge's address broke off with an error of its own."
        if body.refusal:
            return "refused", f"The judge refused: {body.refusal[:300]}"
        if body.text is None or not body.text.strip():
            return "empty_reply", "The judge's reply is empty."
        return "ok", ""
