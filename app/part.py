"""A part of a tab that follows the disk, and what it is shown of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from backend.inference.engine import Loaded
from backend.lab import Lab
from backend.library.speeds import Speed
from backend.library.transfer import Transfer
from models.catalogue import Entry

UNKNOWN = object()
"""In place of an input's value, where the page has not said it."""


@dataclass(frozen=True)
class Sight:
    """The library at one moment, read once for all parts."""

    entries: Sequence[Entry]
    transfers: Sequence[Transfer]
    loaded: Sequence[Loaded]
    speeds: Sequence[Speed]


def sight(lab: Lab) -> Sight:
    transfers = lab.library.transfers()
    return Sight(lab.library.entries(transfers), transfers, lab.loaded(), lab.library.speeds())


@dataclass(frozen=True)
class Part:
    """`view` gives a value for each of `outputs`, from what is seen now and from the values of `inputs`.

    After each event of `acted` the page looks again.
    """

    outputs: list[Any]
    view: Callable[..., list[Any]]
    acted: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)


def choices(options: Sequence[tuple[str, str]], chosen: Any) -> Any:
    """A list's new options. What was chosen stays while it can be chosen, else the first is; UNKNOWN is left alone."""
    if chosen is UNKNOWN:
        return gr.update(choices=options)
    values: list[str | None] = [value for _, value in options]
    return gr.update(choices=options, value=chosen if chosen in values else (values or [None])[0])
