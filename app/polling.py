"""A part of a tab that follows the disk, and the clock that all parts of a tab share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app import guard
from backend.lab import Lab

UNKNOWN = object()
"""In place of an input's value, where the page has not said it."""
BUSY, IDLE = 1.0, 4.0  # seconds between two looks at the disk, while something is on its way and while not


@dataclass(frozen=True)
class LiveSection:
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
    if chosen in values:
        return gr.update(choices=options)
    return gr.update(choices=options, value=(values or [None])[0])


def poll(
    lab: Lab,
    tab: gr.Tab,
    name: str,
    parts: Sequence[LiveSection],
    see: Callable[[bool], tuple[Any, bool]],
    visiting: Any,
    busy_pace: float = BUSY,
) -> None:
    """Keep the parts of an open tab as the disk is. `see` reads it once for all parts, and whether something is on its
    way; it is told whether the owner looks. `visiting` is shown to those who may only look."""
    # components
    outputs = [output for part in parts for output in part.outputs]
    inputs = [given for part in parts for given in part.inputs]
    seen = gr.State([])
    timer = gr.Timer(BUSY, active=False)

    # handlers
    def now(owner: bool, chosen: Sequence[Any]) -> tuple[list[Any], gr.Timer]:
        (sight, busy), given, values = see(owner), iter(chosen), []
        for part in parts:
            values += part.view(sight, *(next(given) for _ in part.inputs))
        return values, gr.Timer(busy_pace if busy else IDLE, active=True)

    @guard.shown(lab.settings)
    def look(request: gr.Request) -> list[Any]:
        """Everything as it is now."""
        owner = guard.may_change(lab.settings, request)
        values, pace = now(owner, [UNKNOWN] * len(inputs))
        return [list(map(repr, values)), pace, gr.update(visible=not owner), *values]

    @guard.shown(lab.settings)
    def again(request: gr.Request, before: list[str], *chosen: Any) -> list[Any]:
        """What has changed since this page looked last; the rest of the page stays as it is."""
        values, pace = now(guard.may_change(lab.settings, request), chosen)
        told = list(map(repr, values))
        old = before if len(before) == len(told) else [""] * len(told)
        changed = [gr.skip() if was == said else value for was, said, value in zip(old, told, values, strict=True)]
        return [told, pace, *changed]

    # bindings
    everything = [seen, timer, *outputs]
    tab.select(look, None, [seen, timer, visiting, *outputs], api_name=name, show_progress="hidden")
    timer.tick(again, [seen, *inputs], everything, api_name=f"{name}_tick", show_progress="hidden")
    for part in parts:
        for acted in part.acted:
            acted.then(again, [seen, *inputs], everything, api_visibility="private", show_progress="hidden")
