"""Finds the columns with the conversation, and the shape in which a row stores it."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from backend.core.errors import LabError
from backend.data.dataset import DatasetSpec, Shape, shown

TURNS = ("conversations", "messages", "turns", "conversation", "dialogue", "chosen")
PROMPTS = ("instruction", "prompt", "question", "query", "user")
CONTEXTS = ("input", "context")
ANSWERS = ("output", "completion", "response", "answer", "chosen", "reference", "assistant")
SYSTEMS = ("system", "system_prompt", "system_message")
HISTORIES = ("history",)
LABELS = ("label",)
NAME_THEM = "Enter it under “Column of the prompt” or “Column of the answer”, or choose another dataset."
LONGEST_TEXT = 1_000_000  # characters of turns that are stored as text


@dataclass(frozen=True)
class Columns:
    """Names of columns: either `turns`, or `prompt` and `answer`. The others may be missing in a row."""

    shape: Shape
    turns: str = ""
    prompt: str = ""
    context: str = ""
    answer: str = ""
    system: str = ""
    history: str = ""
    """Earlier questions and answers, as in Alpaca: a list of pairs."""
    label: str = ""
    """Whether the answer is a good one, as in KTO: true or false."""

    @property
    def used(self) -> frozenset[str]:
        names = (self.turns, self.prompt, self.context, self.answer, self.system, self.history, self.label)
        return frozenset(name for name in names if name)


def detect_columns(
    spec: DatasetSpec, names: Sequence[str], rows: Sequence[Mapping[str, Any]], advice: str = NAME_THEM
) -> Columns:
    """Detect the columns from their names and from the first rows; columns in the spec take precedence.

    `advice`: what a user can do if they are not found, which depends on the page.

    Raises LabError if a column of the spec does not exist, or if no columns with a conversation are found.
    """
    for name in (spec.conversation, spec.prompt, spec.context, spec.answer, spec.system):
        if name and name not in names:
            raise LabError(
                f"There is no column {shown(name)}. The columns are {listed(names)}; enter one of them, or leave the "
                "field empty."
            )
    system = spec.system or _first_column(SYSTEMS, names) or SYSTEMS[0]
    if _has_turns(spec, names, rows):
        turns = spec.conversation or _first_column(TURNS, names, rows)
        if not turns:
            raise LabError(
                f"No column has a list of turns; the columns are {listed(names)}. Enter one under Column of turns, or "
                "choose another shape."
            )
        return Columns(_shape_of_turns(spec, turns, rows), turns=turns, system=system, label=_label(names, rows))
    columns = _prompt_and_answer(spec, names, system, advice)
    history = _first_column(HISTORIES, [name for name in names if name not in columns.used])
    return replace(columns, history=history or HISTORIES[0], label=_label(names, rows))


def _has_turns(spec: DatasetSpec, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one column has all turns, instead of a prompt column and an answer column."""
    if spec.shape != "auto":
        return spec.shape in ("sharegpt", "messages")
    if spec.conversation or spec.prompt or spec.answer:
        return bool(spec.conversation)
    turns, has_pair = _first_column(TURNS, names, rows), _first_column(PROMPTS, names) and _first_column(ANSWERS, names)
    return bool(turns) and (not has_pair or 2 * sum(bool(as_list(row.get(turns))) for row in rows) >= len(rows))


def _first_column(
    candidates: Sequence[str], names: Sequence[str], rows: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The first candidate that is a column, in any capitalisation; empty if there is none.

    With `rows`, only a column with lists of turns counts.
    """
    by_lower = {name.lower(): name for name in reversed(names)}
    for name in (by_lower[candidate] for candidate in candidates if candidate in by_lower):
        if rows is None or any(_may_have_turns(row.get(name)) for row in rows):
            return name
    return ""


def _may_have_turns(value: Any) -> bool:
    return isinstance(value, list | dict) or bool(as_list(value))


def _label(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The column that says which answers are good, as in KTO; empty if its values are not true and false."""
    name = _first_column(LABELS, names)
    return name if name and any(as_bool(row.get(name)) is not None for row in rows) else ""


def as_bool(value: Any) -> bool | None:
    """A label: true or false, also as text of a CSV file; None for any other value."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _shape_of_turns(
    spec: DatasetSpec, turns: str, rows: Sequence[Mapping[str, Any]]
) -> Literal["sharegpt", "messages"]:
    """Decide by the keys of each row's first turn: `from` (sharegpt) or `role` (messages, also if undecided)."""
    if spec.shape in ("sharegpt", "messages"):
        return spec.shape
    first_turns = [as_list(row.get(turns))[:1] for row in rows]
    keys = [turn for first in first_turns for turn in first if isinstance(turn, Mapping)]
    return "sharegpt" if sum("from" in turn for turn in keys) > sum("role" in turn for turn in keys) else "messages"


def as_list(value: Any) -> list[Any]:
    """Return the turns as a list of objects; empty if the value has no turns.

    They may be stored by column, or as text in JSON or in Python's notation, which pandas writes into CSV files.
    """
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) != 1:
            return []
        return [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    return value if isinstance(value, list) else []


def _from_text(text: str) -> Any:
    if len(text) > LONGEST_TEXT or not text.lstrip().startswith(("[{", "[ {", "[\n", "[[")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _prompt_and_answer(spec: DatasetSpec, names: Sequence[str], system: str, advice: str) -> Columns:
    used = {spec.prompt, spec.answer, spec.context, spec.system}
    free = [name for name in names if name not in used]
    prompt, answer = spec.prompt or _first_column(PROMPTS, free), spec.answer or _first_column(ANSWERS, free)
    if not prompt or not answer:
        missing = " and ".join(what for what, name in (("the prompt", prompt), ("the answer", answer)) if not name)
        raise LabError(f"It is not clear which column has {missing}; the columns are {listed(names)}. {advice}")
    if spec.shape == "prompt_completion":
        return Columns("prompt_completion", prompt=prompt, context=spec.context, answer=answer, system=system)
    context = spec.context or _first_column(CONTEXTS, free)
    alpaca = spec.shape == "alpaca" or bool(context) or prompt.lower() == PROMPTS[0]
    # Later rows may have a context although the first ones have none: use the usual name.
    usual = context or (CONTEXTS[0] if alpaca and CONTEXTS[0] not in used else "")
    return Columns("alpaca" if alpaca else "prompt_completion", "", prompt, usual, answer, system)


def listed(names: Sequence[str]) -> str:
    """List names of columns for a sentence; after 20 names, only the number of the others."""
    if not names:
        return "none"
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(shown(name) for name in names[:20]) + more
