"""A model on this machine as a judge. A grammar forces its reply into the requested format."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.inference.engines import Engines
from backend.inference.placement import ModelSpec, PromptFormat
from backend.inference.sampling import Generation, Sampling
from backend.judge.client import JudgeReply
from backend.judge.score import Status
from backend.remote.response import ReplyFormat

SEED = 1


@dataclass(frozen=True)
class LocalJudge:
    """A `JudgeClient` for a local variant. `together`: the number of slots of the engine."""

    engines: Engines
    spec: ModelSpec
    prompt_format: PromptFormat
    together: int

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        """Generate greedily.

        The replies to one question can still differ where two tokens are about equally likely. The reused prefix of an
        earlier prompt changes the batch sizes, and they change the rounding.
        """
        start = time.monotonic()
        sampling = Sampling(temperature=0, seed=SEED, max_tokens=tokens, grammar=form.grammar)
        text, why, code = "", "", ""
        try:
            reply = self.engines.reply(self.spec, messages, sampling, self.prompt_format)
            text = reply.text()
        except LabError as error:
            why, code = str(error), error.code
            reply = None
        seconds = time.monotonic() - start
        if reply is None or reply.generation is None:
            return JudgeReply("over_context" if code == "too_long" else "api_error", why=why, seconds=seconds)
        generation = reply.generation
        status, why = _status(generation)
        return JudgeReply(
            status, text, why, self.spec.name, (), generation.prompt_tokens, generation.tokens, 0.0, seconds
        )


def _status(generation: Generation) -> tuple[Status, str]:
    """The status of a reply, and the sentence if it is not "ok". The text itself is not parsed here."""
    if generation.end == "context" or generation.left_out:
        return (
            "over_context",
            f"The question does not fit into the judge's context of {generation.context_size:,} tokens.",
        )
    if generation.end == "length":
        return "judge_truncated", "The judge's reply was cut off at its limit."
    return ("cancelled", "Stopped before it was answered.") if generation.end == "stopped" else ("ok", "")
