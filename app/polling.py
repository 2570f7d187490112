"""Live sections of a tab: a timer reads the state of the app and sends the outputs that have changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app import guard
from backend.lab import Lab

UNKNOWN = object()
"""Replaces the value of an input that the page has not sent."""
BUSY, IDLE = 1.0, 4.0  # seconds between two ticks: while a run is live, and otherwise


@dataclass(frozen=True)
class LiveSection:
    """`view(snapshot, *inputs)` returns a value for each of `outputs`. `inputs` are components by parameter name.

    The tab is updated after each of `events`.
    """

    outputs: list[Any]
    view: Callable[..., list[Any]]
    events: list[Any] = field(default_factory=list)
    inputs: Mapping[str, Any] = field(default_factory=dict)


def choices(options: Sequence[tuple[str, str]], chosen: Any) -> Any:
    """Update the choices of a dropdown. The chosen value is kept if it still exists; otherwise the first is chosen."""
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
    sections: Sequence[LiveSection],
    read: Callable[[bool], tuple[Any, bool]],
    visiting: Any,
    busy_interval: float = BUSY,
) -> None:
    """Update the sections of an open tab.

    `read(owner)` is called once per tick for all sections; it returns the snapshot for their views, and whether a run
    is live. `visiting` is shown to visitors only. The endpoint `name` sends the whole tab, `name_tick` the changes.
    """
    # components
    outputs = [output for section in sections for output in section.outputs]
    inputs = {key: component for section in sections for key, component in section.inputs.items()}
    sent = gr.State([])
    timer = gr.Timer(BUSY, active=False)

    # handlers
    def views(owner: bool, values: Mapping[str, Any]) -> tuple[list[Any], gr.Timer]:
        snapshot, busy = read(owner)
        shown = [
            value for section in sections for value in section.view(snapshot, *(values[key] for key in section.inputs))
        ]
        return shown, gr.Timer(busy_interval if busy else IDLE, active=True)

    @guard.shown(lab.settings)
    def open_tab(request: gr.Request) -> list[Any]:
        owner = guard.may_change(lab.settings, request)
        values, new_timer = views(owner, dict.fromkeys(inputs, UNKNOWN))
        return [list(map(repr, values)), new_timer, gr.update(visible=not owner), *values]

    @guard.shown(lab.settings)
    def tick(request: gr.Request, before: list[str], **chosen: Any) -> list[Any]:
        """Send the outputs that have changed since the last tick."""
        values, new_timer = views(guard.may_change(lab.settings, request), chosen)
        texts = list(map(repr, values))
        old_texts = before if len(before) == len(texts) else [""] * len(texts)
        changed = [
            gr.skip() if text == old else value for old, text, value in zip(old_texts, texts, values, strict=True)
        ]
        return [texts, new_timer, *changed]

    # bindings
    tick_inputs = {"before": sent, **inputs}
    everything = [sent, timer, *outputs]
    tab.select(open_tab, None, [sent, timer, visiting, *outputs], api_name=name, show_progress="hidden")
    timer.tick(tick, None, everything, inputs_kwargs=tick_inputs, api_name=f"{name}_tick", show_progress="hidden")
    for section in sections:
        for event in section.events:
            event.then(
                tick, None, everything, inputs_kwargs=tick_inputs, api_visibility="private", show_progress="hidden"
            )
