"""A comparison: one prompt to several variants, turn by turn, and the vote on what they said."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from backend.core.errors import LabError
from backend.inference import conversation
from backend.inference.conversation import STOPPED, Turn
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from backend.judge.votes import Candidate, Vote
from backend.lab import Lab

Pace = Literal["together", "one after another (fair speeds)"]
LETTERS = "ABCD"  # what the columns are called


@dataclass(frozen=True)
class Comparison:
    """The state of a comparison; every step returns a new one. `variants` are in the order of the columns."""

    variants: tuple[str, ...] = ()
    turns: tuple[tuple[Turn, ...], ...] = ()
    hidden: bool = False
    """Whether this is blind still: names are not shown yet."""
    voted: bool = True
    """Whether there is nothing to vote on."""
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    votes: tuple[Vote, ...] = ()
    """The votes of this session, also those that are not stored."""

    @property
    def contestants(self) -> tuple[tuple[str, tuple[Turn, ...]], ...]:
        return tuple(zip(self.variants, self.turns, strict=True))


def opened(chosen: Sequence[str], blind: bool, votes: tuple[Vote, ...]) -> Comparison:
    """A new comparison; blind ones are shuffled. LabError if there are not two."""
    if len(chosen) < 2:
        raise LabError("A comparison needs two variants. Choose another one; it may be the same twice.")
    order = random.sample(list(chosen), len(chosen)) if blind else list(chosen)
    return Comparison(tuple(order), tuple(() for _ in order), hidden=blind, votes=votes)


def ignored(now: Comparison, chosen: Sequence[str], blind: bool) -> str:
    """What was chosen meanwhile and cannot count any more, as a sentence; empty if nothing."""
    if sorted(chosen) != sorted(now.variants):
        return "This comparison continues with its variants. Press Start over to compare others."
    return "Names are already known. Press Start over for a new blind comparison." if blind and not now.hidden else ""


def asked(now: Comparison, prompt: str, system: str, sampling: Sampling) -> Comparison:
    """With the prompt put to everyone."""
    turns = tuple((*turns, conversation.user_turn(prompt)) for turns in now.turns)
    return replace(now, turns=turns, system=system, sampling=sampling, voted=False)


def groups(pace: Pace, count: int) -> list[range]:
    """Who answers at the same time: everyone, or each alone so that speeds are fair."""
    return [range(count)] if pace == "together" else [range(place, place + 1) for place in range(count)]


def texts(now: Comparison) -> list[str]:
    """Everything that was written in it, and in what was voted on before: what it holds in memory."""
    voted = [
        message["content"] for vote in now.votes for candidate in vote.candidates for message in candidate.messages
    ]
    return [now.system, *voted, *(turn.content for turns in now.turns for turn in turns)]


def start(lab: Lab, now: Comparison, place: int, stopped: bool = False, visitor: tuple[str, str] = ("", "")) -> Reply:
    """The answer of one contestant. Its failure is its own: the others go on. `visitor`: see `Lab.reply`."""
    messages = conversation.messages(now.system, now.turns[place])
    try:
        if stopped:
            raise LabError(STOPPED)
        return lab.reply(now.variants[place], messages, now.sampling, visitor=visitor)
    except LabError as error:
        reply = Reply(stop=lambda: None)
        reply.fail(error.code, str(error))
        return reply


def arriving(now: Comparison, replies: Sequence[Reply]) -> Comparison:
    """With the answers so far; those that have not started have none."""
    answers = [conversation.answer_turn(name, reply) for name, reply in zip(now.variants, replies, strict=False)]
    turns = [(*turns, answers[place]) if place < len(answers) else turns for place, turns in enumerate(now.turns)]
    return replace(now, turns=tuple(turns))


def revealed(now: Comparison) -> Comparison:
    """With names shown; from here on its votes are not blind."""
    return replace(now, hidden=False)


def votable(now: Comparison) -> bool:
    """Whether everyone has answered and you have not voted yet. To have failed is no verdict, so not a loss."""
    last = [turns[-1] for turns in now.turns if turns]
    return (
        not now.voted
        and len(last) == len(now.variants)
        and all(turn.role == "assistant" and (turn.content or not turn.error) for turn in last)
    )


def voted(now: Comparison, choice: int | Literal["tie", "all bad"]) -> tuple[Comparison, Vote]:
    """With your vote on the last answers, which also reveals the names. LabError if there is nothing to vote on."""
    if not votable(now):
        raise LabError("There is nothing new to vote on. Send a prompt, wait for every answer, then vote.")
    if isinstance(choice, int) and not 0 <= choice < len(now.variants):
        raise LabError("That column has no answer. Vote for one that has.")
    judgement = Vote(
        blind=now.hidden,
        candidates=[
            Candidate(variant=name, messages=conversation.messages(now.system, turns), generation=turns[-1].generation)
            for name, turns in now.contestants
        ],
        verdict="winner" if isinstance(choice, int) else choice,
        winner=choice if isinstance(choice, int) else None,
        sampling=now.sampling,
    )
    return replace(now, voted=True, hidden=False, votes=(*now.votes, judgement)), judgement
