"""A judge at an OpenAI-compatible address. For workers only."""

from collections.abc import Sequence

from backend.core.messages import Message
from backend.judge.client import JudgeReply
from backend.judge.score import Status
from backend.remote.address import concurrency
from backend.remote.capabilities import Capabilities
from backend.remote.client import TIMEOUT, ApiClient, ApiReply
from backend.remote.errors import Kind
from backend.remote.response import ReplyFormat, ResponseBody
from backend.remote.retry import LONGEST, PAUSE, RetryPolicy

_STATUS: dict[Kind, Status] = {"context": "over_context", "timed_out": "timed_out"}


class RemoteJudge:
    """A `JudgeClient` for a remote model. `together`: the number of concurrent calls; 0 chooses it by the address."""

    def __init__(
        self,
        api: ApiClient,
        capabilities: Capabilities,
        together: int = 0,
        pause: float = PAUSE,
        timeout: float = TIMEOUT,
        longest: float = LONGEST,
    ) -> None:
        self.together = together or concurrency(api.address)
        self._capabilities = capabilities
        self._retry = RetryPolicy(api, pause, timeout, longest)

    @property
    def waiting_until(self) -> float:
        """When calls continue after a rate limit, in seconds since 1970; 0 if none applies."""
        return self._retry.waiting_until

    def cancel_waiting(self) -> None:
        """End waiting questions as cancelled. Calls in progress may still be answered."""
        self._retry.cancel_waiting()

    def close(self) -> None:
        """End the calls in progress as cancelled, too."""
        self._retry.close()

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        outcome = self._retry.ask(self._capabilities.request(messages, form, tokens), what)
        result, seconds, attempts = outcome.result, outcome.seconds, outcome.attempts
        if result is None:
            return JudgeReply("cancelled", why="Stopped before it was answered.", seconds=seconds, attempts=attempts)
        if not isinstance(result, ApiReply):
            status = _STATUS.get(result.kind, "api_error")
            return JudgeReply(status, why=result.why, seconds=seconds, attempts=attempts)
        status, why = self._status(result.body)
        return JudgeReply(
            status=status,
            text=result.body.text or "",
            why=why,
            model=result.body.model,
            tokens=result.body.tokens,
            tokens_in=result.tokens_in,
            tokens_out=result.tokens_out,
            cost=result.cost,
            seconds=seconds,
            attempts=attempts,
        )

    def _status(self, body: ResponseBody) -> tuple[Status, str]:
        """The status of a reply, and the sentence if it is not "ok". The text itself is not parsed here."""
        expected = self._capabilities.returned
        if body.model and expected and body.model != expected:
            return "other_model", f"{body.model} answered, but this run's judge is {expected}."
        match body.finish:
            case "length":
                return "judge_truncated", "The judge's reply was cut off at its limit."
            case "content_filter":
                return "filtered", "A content filter at the judge's address blocked the reply."
            case "error":
                return "api_error", "The judge's address ended the reply with an error."
        if body.refusal:
            return "refused", f"The judge refused: {body.refusal[:300]}"
        if body.text is None or not body.text.strip():
            return "empty_reply", "The judge's reply is empty."
        return "ok", ""
