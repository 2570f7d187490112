"""Details of one variant: verify, remove, speed test, its context, and another try after a crash."""

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

DEFAULT = "default"
CONTEXTS = [DEFAULT, "512", "1024", "2048", "4096", "8192", "16384", "32768"]


def details_panel(lab: Lab) -> LiveSection:
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("One variant", open=False):
        with gr.Row():
            variant_list = gr.Dropdown(
                [entry.variant.id for entry in lab.entries()],
                value=None,
                label="Variant details",
                interactive=True,
                scale=3,
            )
            context = gr.Dropdown(CONTEXTS, value=DEFAULT, label="Context, tokens", interactive=True, scale=1)
            verify = gr.Button("Verify again", size="sm", min_width=100)
            speed = gr.Button("Speed test", size="sm", min_width=100)
            retry = gr.Button("Try again", size="sm", min_width=100, visible=False)
            remove = gr.Button("Remove", size="sm", min_width=100)
        with gr.Row(visible=False) as confirmation:
            question = gr.Markdown()
            confirm = gr.Button("Remove it", variant="stop", size="sm", min_width=100)
            keep = gr.Button("Keep it", size="sm", min_width=100)
        message = gr.Markdown()
        description = gr.Markdown()
        with gr.Accordion("All fields of the GGUF header, and the chat template", open=False):
            fields = gr.Dataframe(headers=["field", "value"], label="Header", interactive=False, wrap=True)
            template = gr.Textbox(label="Chat template in its file", interactive=False, lines=4, max_lines=20)

    # handlers
    def details(variant: str | None, owner: bool) -> list[Any]:
        """Description, header, chat template, and whether the variant can be tried again after a crash."""
        if not variant:
            return ["", [], "", gr.update(visible=False)]
        facts = lab.describe(variant)
        blocked = facts.state in ("crashes the loader", "damaged") and bool(facts.header)
        return [library_view.description(facts, owner), facts.header, facts.template, gr.update(visible=blocked)]

    @shown
    def describe(variant: str | None, request: gr.Request) -> list[Any]:
        tokens = lab.context(lab.entry(variant)) if variant else lab.settings.lab_context
        size = DEFAULT if tokens == lab.settings.lab_context else str(tokens)
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
        guard.require_owner(lab.settings, request, "load a model again that has crashed")
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
        text = f"{plain(str(variant))} was removed. This freed {amount(freed) or '0 B'}."
        names = [entry.variant.id for entry in lab.entries()]
        return gr.update(value=None, choices=names), text, gr.update(visible=False)

    @shown
    def resize(variant: str | None, tokens: str | None, request: gr.Request) -> None:
        guard.require_owner(lab.settings, request, "choose a context")
        if tokens not in CONTEXTS:
            raise LabError("No context is chosen. Choose one in “Context, tokens”.")
        lab.choose_context(chosen(variant), lab.settings.lab_context if tokens == DEFAULT else int(tokens))
        guard.info(f"{variant} is loaded again with the next message. Answers that are being generated end now.")

    def view(snapshot: Snapshot, variant: str | None) -> list[Any]:
        names = [entry.variant.id for entry in snapshot.entries]
        known = variant if variant in names else None
        values = [gr.skip()] * len(outputs) if variant is UNKNOWN else details(known, snapshot.owner)
        return [gr.update(choices=names), *values]

    # bindings
    outputs = [description, fields, template, retry]
    variant_list.input(describe, variant_list, [*outputs, context, message, confirmation], api_name="describe")
    remove.click(ask, variant_list, [confirmation, question], api_name="ask_to_remove")
    keep.click(lambda: gr.update(visible=False), None, confirmation, api_visibility="private")
    events = [
        context.input(resize, [variant_list, context], None, api_name="choose_context"),
        verify.click(check, variant_list, None, api_name="verify"),
        speed.click(measure, variant_list, None, api_name="speed_test"),
        retry.click(try_again, variant_list, None, api_name="try_again"),
        confirm.click(remove_it, variant_list, [variant_list, message, confirmation], api_name="remove"),
    ]
    return LiveSection([variant_list, *outputs], view, events, {"variant": variant_list})


def chosen(variant: str | None) -> str:
    if not variant:
        raise LabError("No variant is chosen. Choose one in “Variant details”.")
    return variant
