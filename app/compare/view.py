"""The words and rows of the Compare tab. No gradio."""

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
    """How other judges go with your votes."""
    told = [f"{plain(judge)} agrees with you on {same} of {both}" for judge, (same, both) in agreement.items()]
    return f"On pairs of answers that both have judged: {'; '.join(told)}." if told else ""


def column(comparison: Comparison, place: int, finished: int = 0) -> list[dict[str, str]]:
    """The messages of one column, without the first `finished` turns."""
    turns = comparison.turns[place] if place < len(comparison.turns) else ()
    return chat(turns[finished:], blind=comparison.hidden)


def heading(now: Comparison, place: int) -> str:
    """Above a column: its letter, and its variant unless that is hidden."""
    letter = LETTERS[place]
    hidden = now.hidden or place >= len(now.variants)
    return f"**{letter}**" if hidden else f"**{letter}** · {plain(now.variants[place])}"


def names(variants: Sequence[str]) -> str:
    """Who was who."""
    return ", ".join(f"{letter} is **{plain(name)}**" for letter, name in zip(LETTERS, variants, strict=False)) + "."


def vote_status(judgement: Vote, was_hidden: bool) -> str:
    """Your vote, and who was who if it was blind."""
    best = f"{LETTERS[judgement.winner]} is better" if judgement.winner is not None else judgement.verdict
    who = [candidate.variant for candidate in judgement.candidates]
    return f"Your vote: **{best}**." + (f" {names(who)}" if was_hidden else "")
