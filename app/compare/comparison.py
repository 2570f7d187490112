"""The state of a comparison: the turns of each variant, and the votes. No gradio."""

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
LETTERS = "ABCD"  # names of the columns


@dataclass(frozen=True)
class Comparison:
    """An immutable state: every function returns a new one. `variants` are in the order of the columns."""

    variants: tuple[str, ...] = ()
    turns: tuple[tuple[Turn, ...], ...] = ()
    hidden: bool = False
    """Whether the names of the variants are hidden."""
    voted: bool = True
    """Whether the last answers have a vote, or there are none."""
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    votes: tuple[Vote, ...] = ()
    """The votes of this session, stored or not."""

    @property
    def columns(self) -> tuple[tuple[str, tuple[Turn, ...]], ...]:
        return tuple(zip(self.variants, self.turns, strict=True))


def new_comparison(chosen: Sequence[str], blind: bool, votes: tuple[Vote, ...]) -> Comparison:
    """Start a comparison; with `blind`, in random order. LabError for fewer than two variants."""
    if len(chosen) < 2:
        raise LabError("A comparison needs two variants. Choose a second one; it may be the same.")
    order = random.sample(list(chosen), len(chosen)) if blind else list(chosen)
    return Comparison(tuple(order), tuple(() for _ in order), hidden=blind, votes=votes)


def ignored_choice(state: Comparison, chosen: Sequence[str], blind: bool) -> str:
    """A sentence about choices that were changed during the comparison and are ignored; empty if there are none."""
    if sorted(chosen) != sorted(state.variants):
        return "This comparison continues with its variants. Press Start over to compare others."
    return (
        "The names are known already. Press Start over for a new blind comparison."
        if blind and not state.hidden
        else ""
    )


def with_prompt(state: Comparison, prompt: str, system: str, sampling: Sampling) -> Comparison:
    """Add the prompt to every column."""
    turns = tuple((*turns, conversation.user_turn(prompt)) for turns in state.turns)
    return replace(state, turns=turns, system=system, sampling=sampling, voted=False)


def groups(pace: Pace, count: int) -> list[range]:
    """The columns that answer at the same time: all, or one after another so that speeds are comparable."""
    return [range(count)] if pace == "together" else [range(column, column + 1) for column in range(count)]


def texts(state: Comparison) -> list[str]:
    """All texts that the state has in memory: prompts, answers, and those of earlier votes."""
    voted = [
        message["content"] for vote in state.votes for candidate in vote.candidates for message in candidate.messages
    ]
    return [state.system, *voted, *(turn.content for turns in state.turns for turn in turns)]


def start(
    lab: Lab, state: Comparison, column: int, stopped: bool = False, visitor: tuple[str, str] = ("", "")
) -> Reply:
    """Start the reply of one column. A LabError becomes a failed reply, so that the others go on.

    `visitor`: see `Lab.reply`.
    """
    messages = conversation.messages(state.system, state.turns[column])
    try:
        if stopped:
            raise LabError(STOPPED)
        return lab.reply(state.variants[column], messages, state.sampling, visitor=visitor)
    except LabError as error:
        reply = Reply(stop=lambda: None)
        reply.fail(error.code, str(error))
        return reply


def with_answers(state: Comparison, replies: Sequence[Reply]) -> Comparison:
    """Add the answers so far. Columns whose reply has not started get none."""
    answers = [conversation.answer_turn(name, reply) for name, reply in zip(state.variants, replies, strict=False)]
    turns = [(*turns, answers[column]) if column < len(answers) else turns for column, turns in enumerate(state.turns)]
    return replace(state, turns=tuple(turns))


def revealed(state: Comparison) -> Comparison:
    """Show the names. Later votes are not blind."""
    return replace(state, hidden=False)


def can_vote(state: Comparison) -> bool:
    """Whether every column has an answer and there is no vote yet. A failed answer cannot be voted on."""
    last = [turns[-1] for turns in state.turns if turns]
    return (
        not state.voted
        and len(last) == len(state.variants)
        and all(turn.role == "assistant" and (turn.content or not turn.error) for turn in last)
    )


def with_vote(state: Comparison, choice: int | Literal["tie", "all bad"]) -> tuple[Comparison, Vote]:
    """Add a vote on the last answers and show the names. LabError if there is nothing to vote on."""
    if not can_vote(state):
        raise LabError("There is nothing to vote on. Send a prompt, wait for every answer, then vote.")
    if isinstance(choice, int) and not 0 <= choice < len(state.variants):
        raise LabError("This column has no answer. Vote for a column with an answer.")
    vote = Vote(
        blind=state.hidden,
        candidates=[
            Candidate(
                variant=name, messages=conversation.messages(state.system, turns), generation=turns[-1].generation
            )
            for name, turns in state.columns
        ],
        verdict="winner" if isinstance(choice, int) else choice,
        winner=choice if isinstance(choice, int) else None,
        sampling=state.sampling,
    )
    return replace(state, voted=True, hidden=False, votes=(*state.votes, vote)), vote
