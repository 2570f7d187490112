"""Live sections of a tab: one timer reads run folders, and sends the outputs that have changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app import guard
from backend.lab import Lab

UNKNOWN = object()
"""In place of an input's value, when the page has not sent it."""
BUSY, IDLE = 1.0, 4.0  # seconds between two readings: while a run is live, and otherwise


@dataclass(frozen=True)
class LiveSection:
    """`view(now, *inputs)` returns a value for each of `outputs`. `inputs` are components by parameter name.

    The tab is read again after each event of `acted`.
    """

    outputs: list[Any]
    view: Callable[..., list[Any]]
    acted: list[Any] = field(default_factory=list)
    inputs: Mapping[str, Any] = field(default_factory=dict)


def choices(options: Sequence[tuple[str, str]], chosen: Any) -> Any:
    """The new options of a list. A chosen value that is still an option stays; otherwise the first is chosen."""
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
    """Keep the sections of an open tab up to date.

    `read(owner)` is called once per tick for all sections; it returns what their views get, and whether a run is live.
    `visiting` is shown to visitors only. Endpoints: `name` for the whole tab, `name_tick` for what has changed.
    """
    # components
    outputs = [output for section in sections for output in section.outputs]
    inputs = {key: component for section in sections for key, component in section.inputs.items()}
    sent = gr.State([])
    timer = gr.Timer(BUSY, active=False)

    # handlers
    def views(owner: bool, values: Mapping[str, Any]) -> tuple[list[Any], gr.Timer]:
        now, busy = read(owner)
        shown = [value for section in sections for value in section.view(now, *(values[key] for key in section.inputs))]
        return shown, gr.Timer(busy_interval if busy else IDLE, active=True)

    @guard.shown(lab.settings)
    def open_tab(request: gr.Request) -> list[Any]:
        owner = guard.may_change(lab.settings, request)
        values, pace = views(owner, dict.fromkeys(inputs, UNKNOWN))
        return [list(map(repr, values)), pace, gr.update(visible=not owner), *values]

    @guard.shown(lab.settings)
    def tick(request: gr.Request, before: list[str], **chosen: Any) -> list[Any]:
        """What has changed since the last tick; the rest of the page stays unchanged."""
        values, pace = views(guard.may_change(lab.settings, request), chosen)
        texts = list(map(repr, values))
        old = before if len(before) == len(texts) else [""] * len(texts)
        changed = [gr.skip() if was == text else value for was, text, value in zip(old, texts, values, strict=True)]
        return [texts, pace, *changed]

    # bindings
    tick_inputs = {"before": sent, **inputs}
    everything = [sent, timer, *outputs]
    tab.select(open_tab, None, [sent, timer, visiting, *outputs], api_name=name, show_progress="hidden")
    timer.tick(tick, None, everything, inputs_kwargs=tick_inputs, api_name=f"{name}_tick", show_progress="hidden")
    for section in sections:
        for acted in section.acted:
            acted.then(
                tick, None, everything, inputs_kwargs=tick_inputs, api_visibility="private", show_progress="hidden"
            )
