"""Which columns hold the conversation, and how they say who said what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backend.core.errors import LabError
from backend.data.dataset import DatasetSpec, Shape, shown

TURNS = ("conversations", "messages", "turns")
PROMPTS = ("instruction", "prompt", "question")
CONTEXTS = ("input", "context")
ANSWERS = ("output", "completion", "response", "answer")
SYSTEMS = ("system",)


@dataclass(frozen=True)
class Columns:
    """Where to look in a row. Either `turns`, or `prompt` and `answer`; a column that is optional need not be there."""

    shape: Shape
    turns: str = ""
    prompt: str = ""
    context: str = ""
    answer: str = ""
    system: str = ""


def detect_columns(spec: DatasetSpec, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Columns:
    """From the names of the columns and the first rows. What the spec names counts for more than what is found."""
    for name in (spec.conversation, spec.prompt, spec.context, spec.answer, spec.system):
        if name and name not in names:
            raise LabError(f"There is no column {shown(name)}. There are {listed(names)}; name one of them, or none.")
    system = spec.system or _first(SYSTEMS, names) or SYSTEMS[0]
    if _are_turns(spec, names, rows):
        turns = spec.conversation or _first(TURNS, names, rows)
        if not turns:
            raise LabError(
                f"No column holds a list of turns; there are {listed(names)}. Name it under Column of turns, or choose "
                "another shape."
            )
        return Columns(_who_says_what(spec, turns, rows), turns=turns, system=system)
    return _pair(spec, names, system)


def _are_turns(spec: DatasetSpec, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bool:
    if spec.shape != "auto":
        return spec.shape in ("sharegpt", "messages")
    if spec.conversation or spec.prompt or spec.answer:
        return bool(spec.conversation)
    turns, is_pair = _first(TURNS, names, rows), bool(_first(PROMPTS, names) and _first(ANSWERS, names))
    return bool(turns) and (not is_pair or 2 * sum(bool(as_list(row.get(turns))) for row in rows) >= len(rows))


def _first(wanted: Sequence[str], names: Sequence[str], rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The column of the first of these names, however it is capitalised; with rows, only one that holds turns."""
    found = {name.lower(): name for name in reversed(names)}
    for name in (found[one] for one in wanted if one in found):
        if rows is None or any(isinstance(row.get(name), list | dict) for row in rows):
            return name
    return ""


def _who_says_what(spec: DatasetSpec, turns: str, rows: Sequence[Mapping[str, Any]]) -> Literal["sharegpt", "messages"]:
    """By the first turn of every row seen; messages where they speak for neither."""
    if spec.shape in ("sharegpt", "messages"):
        return spec.shape
    firsts = [as_list(row.get(turns))[:1] for row in rows]
    keys = [turn for first in firsts for turn in first if isinstance(turn, Mapping)]
    return "sharegpt" if sum("from" in turn for turn in keys) > sum("role" in turn for turn in keys) else "messages"


def as_list(value: Any) -> list[Any]:
    """Turns as a list. A list of objects may have been stored column by column; empty for what holds no turns."""
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) != 1:
            return []
        return [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    return value if isinstance(value, list) else []


def _pair(spec: DatasetSpec, names: Sequence[str], system: str) -> Columns:
    used = {spec.prompt, spec.answer, spec.context, spec.system}
    free = [name for name in names if name not in used]
    prompt, answer = spec.prompt or _first(PROMPTS, free), spec.answer or _first(ANSWERS, free)
    if not prompt or not answer:
        missing = " and ".join(what for what, name in (("the prompt", prompt), ("the answer", answer)) if not name)
        raise LabError(
            f"It is not clear which column holds {missing}; there are {listed(names)}. Name it under Column of the "
            "prompt or of the answer, or choose other data."
        )
    if spec.shape == "prompt_completion":
        return Columns("prompt_completion", prompt=prompt, context=spec.context, answer=answer, system=system)
    context = spec.context or _first(CONTEXTS, free)
    alpaca = spec.shape == "alpaca" or bool(context) or prompt.lower() == PROMPTS[0]
    # a column that the first rows lack may still come: then its usual name is the one
    usual = context or (CONTEXTS[0] if alpaca and CONTEXTS[0] not in used else "")
    return Columns("alpaca" if alpaca else "prompt_completion", "", prompt, usual, answer, system)


def listed(names: Sequence[str]) -> str:
    """Names of columns in a sentence; not all of them when there are many."""
    if not names:
        return "no columns"
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(shown(name) for name in names[:20]) + more
