"""A variant of this lab as a judge: any GGUF, held to the form by a grammar, asked through the engines."""

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
    """Costs nothing but time. `together` is how many conversations the engine holds."""

    engines: Engines
    seat: ModelSpec
    manner: PromptFormat
    together: int

    def ask(self, messages: Sequence[Message], form: ReplyFormat, tokens: int, what: str) -> JudgeReply:
        """Greedy. Replies to the same question can still differ where two words are about equally likely: what is kept
        of an earlier prompt is not computed again, and what is computed in other portions is rounded otherwise."""
        begun = time.monotonic()
        sampling = Sampling(temperature=0, seed=SEED, max_tokens=tokens, grammar=form.grammar)
        text, why, code = "", "", ""
        try:
            reply = self.engines.reply(self.seat, messages, sampling, self.manner)
            text = reply.text()
        except LabError as error:
            why, code = str(error), error.code
            reply = None
        seconds = time.monotonic() - begun
        if reply is None or reply.generation is None:
            return JudgeReply("over_context" if code == "too_long" else "api_error", why=why, seconds=seconds)
        made = reply.generation
        status, why = _worth(made)
        return JudgeReply(status, text, why, self.seat.name, (), made.prompt_tokens, made.tokens, 0.0, seconds)


def _worth(made: Generation) -> tuple[Status, str]:
    """What a reply is worth, before its text is looked at."""
    if made.end == "context" or made.left_out:
        return "over_context", f"The question does not fit into the judge's context of {made.context_size:,} tokens."
    if made.end == "length":
        return "judge_truncated", "The judge's reply was cut off at its limit."
    return ("cancelled", "Stopped before it was answered.") if made.end == "stopped" else ("ok", "")
