"""The Chat tab: one person, one variant."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import forms, guard, markup
from app.browser_download import SAVE
from app.chat import view as chat_view
from app.streams import Streams
from backend.core.errors import LabError
from backend.inference import conversation
from backend.inference.conversation import Turn
from backend.inference.reply import watch
from backend.inference.sampling import Sampling
from backend.lab import Lab

PRESETS = {
    "none": "",
    "helpful": "You are a helpful assistant.",
    "brief": "Answer briefly.",
    "teacher": "You are a patient teacher. Explain step by step, in simple words.",
    "honest": "Say when you do not know something. Do not invent facts.",
}
EXAMPLES = ["Who are you?", "What is the capital of France?", "What is 7 + 5?", "Name the opposite of hot."]

SAME = gr.skip()  # leaves a control as it is


def chat_tab(lab: Lab) -> None:
    running = Streams(lab.settings)
    shown = guard.shown(lab.settings)

    # components
    entries = lab.entries()
    ready = [entry for entry in entries if entry.runs]
    with gr.Tab("Chat", id="chat") as tab:
        turns = gr.State([], time_to_live=guard.state_seconds(lab.settings))
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                variant = gr.Dropdown(
                    chat_view.options(entries),
                    value=ready[0].variant.id,
                    label="Variant",
                )
                note = gr.Markdown(chat_view.variant_note(ready[0]))
                spoken = gr.Radio(
                    ["as trained", "as its file says"],
                    value="as trained",
                    label="Prompt template",
                    visible=chat_view.mismatched(ready[0]),
                )
                missing = gr.Markdown(chat_view.missing(entries))
                if lab.settings.space_id:
                    gr.Markdown(f"Answers to visitors end at {lab.settings.lab_visitor_tokens} tokens.")
                preset = gr.Dropdown(list(PRESETS), value="none", label="System prompt preset")
                system = gr.Textbox(label="System prompt", lines=2, value="", placeholder="Empty: none is sent.")
                with gr.Accordion("How the next token is chosen", open=False):
                    sampling = forms.draw(Sampling)
            with gr.Column(scale=3):
                chatbot = gr.Chatbot(
                    label="Conversation",
                    show_label=False,
                    height=520,
                    **markup.CHATBOT,
                    editable="user",
                    buttons=["copy"],
                    feedback_options=None,
                    placeholder="Say something. Everything runs on this machine's CPU.",
                    examples=[{"text": example} for example in EXAMPLES],
                )
                with gr.Row():
                    text = gr.Textbox(label="Your message", scale=6, lines=1, max_lines=8, autofocus=True)
                    send = gr.Button("Send", variant="primary", scale=1, min_width=80)
                    stop = gr.Button("Stop", variant="stop", scale=1, min_width=80)
                    new = gr.Button("New chat", scale=1, min_width=110)
                meter = gr.Markdown(chat_view.context([]), elem_id="context-meter")
                with gr.Row():
                    as_json = gr.Button("Save as JSON", size="sm")
                    as_markdown = gr.Button("Save as Markdown", size="sm")
                saved = gr.Textbox(label="Saved conversation", visible="hidden")

    # handlers
    def view(said: list[Turn], box: Any = SAME) -> tuple[Any, ...]:
        return box, said, chat_view.chat(said), chat_view.context(said)

    def answer(
        message: str, earlier: list[Turn], shown_now: list[Turn], box: str, request: gr.Request, *asking: Any
    ) -> Iterator[tuple[Any, ...]]:
        """The turn that `message` opens after `earlier`, as it arrives. If it is refused, all stays as it was."""
        chosen, way, system_text, *values = asking
        sampled = guard.bounded(lab.settings, request, forms.parse(Sampling, values))
        said = [*earlier, conversation.asked(message)]
        guard.require_short(lab.settings, request, [system_text or "", *(turn.content for turn in said)])
        with running.turn(request) as now:
            try:
                visitor = guard.visitor(lab.settings, request)
                reply = lab.reply(chosen or "", conversation.messages(system_text, said), sampled, way, visitor)
            except LabError as error:
                guard.warning(str(error))
                yield view(shown_now, box)
                return
            now.add(reply)
            cleared: Any = "" if box else SAME  # once: what is typed meanwhile is the next message
            for _ in watch(now.replies):
                if now.dropped:
                    yield (SAME,) * len(outs)  # or the page would get the last state once more
                    return
                yield view([*said, conversation.answered(chosen, reply)], cleared)
                cleared = SAME

    @shown
    def say(message: str | None, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        yield from answer(message or "", said, said, message or "", request, *asking)

    @shown
    def example(data: gr.SelectData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        yield from answer(data.value["text"], said, said, "", request, *asking)

    @shown
    def retry(data: gr.RetryData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        earlier, message = conversation.before(said, _index(data.index))
        yield from answer(message, earlier, said, "", request, *asking)

    @shown
    def edit(data: gr.EditData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        earlier, message = conversation.before(said, _index(data.index))
        yield from answer(chat_view.typed(str(data.value), message), earlier, said, "", request, *asking)

    @shown
    def undo(data: gr.UndoData, said: list[Turn]) -> tuple[Any, ...]:
        return view(*conversation.before(said, _index(data.index)))

    @shown
    def clear(request: gr.Request) -> tuple[Any, ...]:
        running.drop(request)
        return view([])

    @shown
    def choose(chosen: str) -> tuple[Any, Any]:
        entry = lab.entry(chosen)
        return chat_view.variant_note(entry), gr.Radio(visible=chat_view.mismatched(entry))

    @shown
    def refresh(chosen: str) -> tuple[Any, str]:
        now = lab.entries()
        options = chat_view.options(now)
        kept = chosen if chosen in [name for _, name in options] else options[0][1]
        return gr.Dropdown(options, value=kept), chat_view.missing(now)

    # bindings
    asking = [turns, variant, spoken, system, *sampling]
    outs = [text, turns, chatbot, meter]
    many = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on([text.submit, send.click], say, [text, *asking], outs, api_name="chat", **many)
    chatbot.example_select(example, asking, outs, api_name="chat_example", **many)
    chatbot.retry(retry, asking, outs, api_name="chat_retry", **many)
    chatbot.edit(edit, asking, outs, api_name="chat_edit", **many)
    chatbot.undo(undo, [turns], outs, api_name="chat_undo", show_progress="hidden")
    stop.click(running.stop, None, None, api_name="chat_stop", queue=False)
    new.click(clear, None, outs, api_name="chat_new", queue=False)
    chatbot.clear(clear, None, outs, api_name="chat_clear", queue=False)
    for button, write, file in (
        (as_json, conversation.as_json, "conversation.json"),
        (as_markdown, conversation.as_markdown, "conversation.md"),
    ):
        made = button.click(
            shown(write), [system, turns], saved, api_name=file.replace(".", "_"), show_progress="hidden"
        )
        made.success(None, saved, None, js=f"(text) => ({SAVE})(text, '{file}')")
    variant.change(choose, variant, [note, spoken], api_name="chat_variant", show_progress="hidden")
    preset.input(lambda name: PRESETS[name], preset, system, api_name="chat_preset", show_progress="hidden")
    tab.select(refresh, variant, [variant, missing], api_name="chat_refresh", show_progress="hidden")


def _index(index: int | tuple[int, int]) -> int:
    return index if isinstance(index, int) else index[0]
