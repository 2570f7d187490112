"""Pure formatting: values to text and rows. Knows no gradio, so that it can be tested by itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.comparison import STOPPED, Comparison
from backend.conversation import ENDS, Turn
from backend.inference.sampling import Generation
from backend.judge.judgement import Judgement, Record
from backend.machine import amount
from models.catalogue import Entry

LETTERS = "ABCD"
_OPENS = re.compile(r"(`{3,}|~{3,})[^`]*$")
_CLOSES = re.compile(r"\s*(?:`{3,}|~{3,})")
_SPANS = re.compile(r"(`[^`]+`)")


def inert(text: str) -> str:
    """Markdown that cannot act: outside code, tags are shown as they are written and images become links.

    Only what is code beyond doubt is left alone: fences that begin a line, and backticks that pair on every line of
    their paragraph. Taking too little for code shows an `&lt;`; taking too much would let a tag through.
    """
    done: list[str] = []
    paragraph: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.strip() and not _OPENS.match(line):
            paragraph.append(line)
            continue
        done += _disarmed(paragraph)
        paragraph = []
        opens = not inside and bool(_OPENS.match(line))
        done.append(line if opens or (inside and not _CLOSES.match(line)) else _escape(line))
        inside = opens or (inside and not _CLOSES.match(line))
    return "\n".join(done + _disarmed(paragraph))


def _disarmed(paragraph: list[str]) -> list[str]:
    """Its lines, escaped outside inline code, if it can be told where that is."""
    told = all("\\" not in line and "``" not in line and line.count("`") % 2 == 0 for line in paragraph)
    if not told:
        return [_escape(line) for line in paragraph]
    parted = [_SPANS.split(line) for line in paragraph]
    return ["".join(part if n % 2 else _escape(part) for n, part in enumerate(parts)) for parts in parted]


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("![", "&#33;[")


def typed(edited: str, before: str) -> str:
    """What a person meant who edited the inert form of `before`."""
    return before if edited == inert(before) else edited.replace("&lt;", "<").replace("&#33;[", "![")


def chat(turns: Sequence[Turn], blind: bool = False) -> list[dict[str, str]]:
    """Turns as a chatbot takes them, one message each. `blind` leaves out what would give a variant away."""
    return [{"role": turn.role, "content": _bubble(turn, blind)} for turn in turns]


def _bubble(turn: Turn, blind: bool) -> str:
    if turn.role == "user":
        return inert(turn.content)
    lines = [inert(turn.content)] if turn.content else []
    if turn.state in ("loading", "waiting") and not turn.content:
        lines.append(f"*{waiting(turn)}*")
    if turn.error:
        told = turn.error if not blind or turn.error == STOPPED else "This answer failed; why is told with the names."
        lines.append(f"**⚠ {inert(told)}**")
    if turn.generation:
        lines += warnings(turn.generation, blind)
        lines += [] if blind else [f"<sub>{turn.variant} · {statistics(turn.generation)}</sub>"]
    return "\n\n".join(lines) or "…"


def waiting(turn: Turn) -> str:
    if turn.state == "loading":
        return "Loading the model…"
    return "You are next in line…" if turn.place == 0 else f"Waiting in line, {turn.place} before you…"


def warnings(generation: Generation, blind: bool) -> list[str]:
    """What must not be overlooked."""
    found = []
    if generation.end == "length":
        found.append(
            f"<mark>⚠ CUT at the token limit ({generation.tokens} tokens). This answer is not complete: "
            "raise “Max tokens” and retry.</mark>"
        )
    if generation.end == "context":
        size = "" if blind else f" ({generation.context_size:,} tokens)"
        found.append(
            f"<mark>⚠ CUT because the context is full{size}. "
            "This answer is not complete: begin a new conversation.</mark>"
        )
    if generation.left_out:
        found.append(
            f"<mark>⚠ The {generation.left_out} oldest messages no longer fit and were left out: "
            "the model did not see them.</mark>"
        )
    return found


def statistics(generation: Generation) -> str:
    wait = f" ({generation.waited:.2f} s of it in line)" if generation.waited >= 0.05 else ""
    speed = f"{generation.tokens_per_second:.1f} tokens/s" if generation.tokens_per_second else "too short for a speed"
    template = "" if generation.template == "own" else f" · template: {generation.template}"
    reused = f", {generation.reused_tokens} still cached" if generation.reused_tokens else ""
    return (
        f"first token after {generation.first_token:.2f} s{wait} · {generation.tokens} tokens · {speed} · "
        f"{ENDS[generation.end]} · prompt {generation.prompt_tokens} tokens{reused} · seed {generation.seed}{template}"
    )


def context(turns: Sequence[Turn]) -> str:
    """How full the context is, after the last answer."""
    last = next((turn.generation for turn in reversed(turns) if turn.generation), None)
    if last is None:
        return "Context: empty."
    share = last.context_used / last.context_size
    bar = "█" * round(share * 20) + "░" * (20 - round(share * 20))
    full = " When it is full, the oldest turns leave it, and it is said so." if share > 0.5 else ""
    return f"Context: `{bar}` {last.context_used:,} of {last.context_size:,} tokens ({share:.0%}).{full}"


def mismatched(entry: Entry) -> bool:
    """Whether it was trained on another template than its file carries."""
    return entry.variant.template != "own"


def variant_note(entry: Entry) -> str:
    """What to know of a variant before talking to it."""
    variant = entry.variant
    facts = " · ".join(filter(None, [inert(variant.about), variant.quantisation, amount(variant.size)]))
    if not mismatched(entry):
        return facts
    return (
        f"{facts}\n\n**Trained on the {variant.template} template, while its file carries another.** The lab talks to "
        "it as it was trained. Switch below to see what the other way costs: serving a model on a template it was "
        "not trained on was a hidden mistake of the original lab."
    )


def option(entry: Entry) -> str:
    """A variant's name in a list."""
    note = f" · {entry.variant.template} template" if mismatched(entry) else ""
    return entry.variant.id + note


def options(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What may be chosen: the variants that run, as a list shows them and by id."""
    return [(option(entry), entry.variant.id) for entry in entries if entry.runs]


def missing(entries: Sequence[Entry]) -> str:
    """Which variants cannot run, and that the Library says what to do."""
    names = [f"{entry.variant.id} ({entry.state})" for entry in entries if not entry.runs]
    return f"Not ready: {', '.join(names)}. The Library tab says what to do." if names else ""


WINS = ["variant", "won", "lost", "tied", "all bad", "votes"]


def wins(records: Sequence[Record]) -> list[list[Any]]:
    return [[record.variant, record.won, record.lost, record.tied, record.bad, record.votes] for record in records]


def agreement(found: Mapping[str, tuple[int, int]]) -> str:
    """How other judges go with your votes."""
    told = [f"{inert(judge)} says what you say on {same} of {both}" for judge, (same, both) in found.items()]
    return f"On pairs of answers that both have judged: {'; '.join(told)}." if told else ""


def side(now: Comparison, place: int) -> list[dict[str, str]]:
    """One column of a comparison."""
    return chat(now.turns[place], blind=now.hidden) if place < len(now.turns) else []


def heading(now: Comparison, place: int) -> str:
    """Above a column: its letter, and its variant unless that is hidden."""
    letter = LETTERS[place]
    return f"**{letter}**" if now.hidden or place >= len(now.variants) else f"**{letter}** · {now.variants[place]}"


def names(variants: Sequence[str]) -> str:
    """Who was who."""
    return ", ".join(f"{letter} is **{name}**" for letter, name in zip(LETTERS, variants, strict=False)) + "."


def vote_status(judgement: Judgement, was_hidden: bool) -> str:
    """Your vote, and who was who if it was blind."""
    best = f"{LETTERS[judgement.winner]} is better" if judgement.winner is not None else judgement.verdict
    who = [candidate.variant for candidate in judgement.candidates]
    return f"Your vote: **{best}**." + (f" {names(who)}" if was_hidden else "")
