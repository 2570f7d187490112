"""The texts and tables of the Compare tab. No gradio."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.chat.view import chat
from app.compare.comparison import LETTERS, Comparison
from app.markup import plain
from backend.judge.votes import Vote, WinRecord

WINS = ["variant", "won", "lost", "tied", "all bad", "votes"]


def wins(records: Sequence[WinRecord]) -> list[list[Any]]:
    return [[record.variant, record.won, record.lost, record.tied, record.bad, record.votes] for record in records]


def agreement(agreement: Mapping[str, tuple[int, int]]) -> str:
    """How often other judges agree with your votes."""
    counts = [f"{plain(judge)} agrees with you on {same} of {both}" for judge, (same, both) in agreement.items()]
    return f"On pairs of answers that both have judged: {'; '.join(counts)}." if counts else ""


def column(comparison: Comparison, place: int, finished: int = 0) -> list[dict[str, str]]:
    """The messages of one column, without the first `finished` turns."""
    turns = comparison.turns[place] if place < len(comparison.turns) else ()
    return chat(turns[finished:], blind=comparison.hidden)


def heading(comparison: Comparison, place: int) -> str:
    """The heading of a column: its letter, and its variant unless that is hidden."""
    letter = LETTERS[place]
    hidden = comparison.hidden or place >= len(comparison.variants)
    return f"**{letter}**" if hidden else f"**{letter}** · {plain(comparison.variants[place])}"


def names(variants: Sequence[str]) -> str:
    """The variant of each column."""
    return ", ".join(f"{letter} is **{plain(name)}**" for letter, name in zip(LETTERS, variants, strict=False)) + "."


def vote_status(vote: Vote, was_hidden: bool) -> str:
    """The vote, and the names if they were hidden."""
    best = f"{LETTERS[vote.winner]} is better" if vote.winner is not None else vote.verdict
    variants = [candidate.variant for candidate in vote.candidates]
    return f"Your vote: **{best}**." + (f" {names(variants)}" if was_hidden else "")
