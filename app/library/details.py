"""One variant, looked at closely: its details, and verify, remove, try again, its context, its speed."""

from typing import Any

import gradio as gr

from app import guard
from app.library import view as library_view
from app.library.snapshot import Snapshot
from app.markup import plain
from app.polling import UNKNOWN, LiveSection
from backend.core.errors import LabError
from backend.core.units import amount
from backend.lab import Lab

WHOLE = "as set"
CONTEXTS = [WHOLE, "512", "1024", "2048", "4096", "8192", "16384", "32768"]


def details_panel(lab: Lab) -> LiveSection:
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("One variant", open=False):
        with gr.Row():
            which = gr.Dropdown(
                [entry.variant.id for entry in lab.entries()],
                value=None,
                label="Variant to look at",
                interactive=True,
                scale=3,
            )
            context = gr.Dropdown(CONTEXTS, value=WHOLE, label="Context, tokens", interactive=True, scale=1)
            verify = gr.Button("Verify again", size="sm", min_width=100)
            speed = gr.Button("Speed test", size="sm", min_width=100)
            forgive = gr.Button("Try again", size="sm", min_width=100, visible=False)
            remove = gr.Button("Remove", size="sm", min_width=100)
        with gr.Row(visible=False) as asking:
            question = gr.Markdown()
            really = gr.Button("Remove it", variant="stop", size="sm", min_width=100)
            keep = gr.Button("Keep it", size="sm", min_width=100)
        said = gr.Markdown()
        told = gr.Markdown()
        with gr.Accordion("Every field of its header, and its chat template", open=False):
            fields = gr.Dataframe(headers=["field", "value"], label="Header", interactive=False, wrap=True)
            template = gr.Textbox(label="Chat template in its file", interactive=False, lines=4, max_lines=20)

    # handlers
    def details(variant: str | None, owner: bool) -> list[Any]:
        """What there is to see of it: description, header, template, and whether it can be tried again."""
        if not variant:
            return ["", [], "", gr.update(visible=False)]
        facts = lab.describe(variant)
        left_alone = facts.state in ("crashes the loader", "damaged") and bool(facts.header)
        return [library_view.description(facts, owner), facts.header, facts.template, gr.update(visible=left_alone)]

    @shown
    def describe(variant: str | None, request: gr.Request) -> list[Any]:
        tokens = lab.context(lab.entry(variant)) if variant else lab.settings.lab_context
        size = WHOLE if tokens == lab.settings.lab_context else str(tokens)
        owner = guard.may_change(lab.settings, request)
        return [*details(variant, owner), gr.update(value=size), "", gr.update(visible=False)]

    @shown
    def check(variant: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "verify models")
        lab.library.verify(chosen(variant))
        guard.info(f"{variant} is being verified. The result will be in “Transfers and tests”.")

    @shown
    def measure(variant: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "measure models")
        lab.library.speed(chosen(variant))
        guard.info(f"{variant} is being measured. The result will be in “Speed tests”.")

    @shown
    def try_again(variant: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "try a model that crashed once more")
        lab.library.unmark(chosen(variant))

    @shown
    def ask(variant: str | None, request: gr.Request) -> tuple[Any, ...]:
        guard.require_owner(lab.settings, request, "remove models")
        freed = lab.library.removable_size(chosen(variant))
        return gr.update(visible=True), f"Remove **{plain(str(variant))}**? This frees {amount(freed) or '0 B'}."

    @shown
    def remove_it(variant: str | None, request: gr.Request) -> tuple[Any, ...]:
        guard.require_owner(lab.settings, request, "remove models")
        freed = lab.library.remove(chosen(variant))
        said = f"{plain(str(variant))} was removed; this freed {amount(freed) or '0 B'}."
        names = [entry.variant.id for entry in lab.entries()]
        return gr.update(value=None, choices=names), said, gr.update(visible=False)

    @shown
    def resize(variant: str | None, tokens: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "choose a context")
        if tokens not in CONTEXTS:
            raise LabError("No context is chosen. Choose one in “Context, tokens”.")
        lab.choose_context(chosen(variant), lab.settings.lab_context if tokens == WHOLE else int(tokens))
        guard.info(f"{variant} is loaded anew with the next message; answers on their way are cut off.")

    def view(now: Snapshot, variant: str | None) -> list[Any]:
        names = [entry.variant.id for entry in now.entries]
        known = variant if variant in names else None
        shown_now = [gr.skip()] * len(seen) if variant is UNKNOWN else details(known, now.owner)
        return [gr.update(choices=names), *shown_now]

    # bindings
    seen = [told, fields, template, forgive]
    which.input(describe, which, [*seen, context, said, asking], api_name="describe")
    remove.click(ask, which, [asking, question], api_name="ask_to_remove")
    keep.click(lambda: gr.update(visible=False), None, asking, api_visibility="private")
    acted = [
        context.input(resize, [which, context], None, api_name="choose_context"),
        verify.click(check, which, None, api_name="verify"),
        speed.click(measure, which, None, api_name="speed_test"),
        forgive.click(try_again, which, None, api_name="try_again"),
        really.click(remove_it, which, [which, said, asking], api_name="remove"),
    ]
    return LiveSection([which, *seen], view, acted, {"variant": which})


def chosen(variant: str | None) -> str:
    if not variant:
        raise LabError("No variant is chosen. Choose one in “Variant to look at”.")
    return variant
