"""The Chat tab: a conversation with one variant."""

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
                prompt_format = gr.Radio(
                    ["as trained", "as its file says"],
                    value="as trained",
                    label="Prompt format",
                    visible=chat_view.mismatched(ready[0]),
                )
                missing = gr.Markdown(chat_view.missing(entries))
                if lab.settings.space_id:
                    gr.Markdown(f"Answers to visitors end at {lab.settings.lab_visitor_tokens} tokens.")
                preset = gr.Dropdown(list(PRESETS), value="none", label="System prompt preset")
                system = gr.Textbox(
                    label="System prompt", lines=2, value="", placeholder="Empty: no system prompt is sent."
                )
                with gr.Accordion("Generation settings", open=False):
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
                    placeholder="Send a message. Everything runs on the CPU of this machine.",
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
    def view(turns: list[Turn], box: Any = SAME, messages: Any = None) -> tuple[Any, ...]:
        """The values of all outputs. `messages` are the rendered turns, if they exist already."""
        return box, turns, messages or chat_view.chat(turns), chat_view.context(turns)

    def stream_answer(
        request: gr.Request, message: str, earlier: list[Turn], history: list[Turn], box: str, **controls: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Stream the answer to `message` after `earlier`. If it is refused, the page keeps `history`."""
        variant, prompt_format = controls["variant"] or "", controls["prompt_format"]
        system_prompt = controls["system_prompt"] or ""
        settings = guard.bounded(lab.settings, request, forms.parse(Sampling, controls))
        turns = [*earlier, conversation.user_turn(message)]
        guard.require_short(lab.settings, request, [system_prompt, *(turn.content for turn in turns)])
        with running.turn(request) as stream:
            try:
                visitor = guard.visitor(lab.settings, request)
                messages = conversation.messages(system_prompt, turns)
                reply = lab.reply(variant, messages, settings, prompt_format, visitor)
            except LabError as error:
                guard.warning(str(error))
                yield view(history, box)
                return
            stream.add(reply)
            finished = chat_view.chat(turns)  # rendered once, not with every token
            cleared: Any = "" if box else SAME  # once, so that text typed during the answer is kept
            for _ in watch(stream.replies, running.interval):
                if stream.dropped:
                    yield (SAME,) * len(outputs)  # otherwise Gradio sends the last values again
                    return
                answer = conversation.answer_turn(variant, reply)
                yield view([*turns, answer], cleared, [*finished, *chat_view.chat([answer])])
                cleared = SAME

    @shown
    def send_message(
        request: gr.Request, message: str | None, history: list[Turn], **controls: Any
    ) -> Iterator[tuple[Any, ...]]:
        yield from stream_answer(request, message or "", history, history, message or "", **controls)

    @shown
    def example(
        data: gr.SelectData, request: gr.Request, history: list[Turn], **controls: Any
    ) -> Iterator[tuple[Any, ...]]:
        yield from stream_answer(request, data.value["text"], history, history, "", **controls)

    @shown
    def retry(
        data: gr.RetryData, request: gr.Request, history: list[Turn], **controls: Any
    ) -> Iterator[tuple[Any, ...]]:
        earlier, message = conversation.before(history, _index(data.index))
        yield from stream_answer(request, message, earlier, history, "", **controls)

    @shown
    def edit(data: gr.EditData, request: gr.Request, history: list[Turn], **controls: Any) -> Iterator[tuple[Any, ...]]:
        earlier, message = conversation.before(history, _index(data.index))
        yield from stream_answer(request, chat_view.typed(str(data.value), message), earlier, history, "", **controls)

    @shown
    def undo(data: gr.UndoData, history: list[Turn]) -> tuple[Any, ...]:
        return view(*conversation.before(history, _index(data.index)))

    @shown
    def clear(request: gr.Request) -> tuple[Any, ...]:
        running.drop(request)
        return view([])

    @shown
    def choose(variant: str) -> tuple[Any, Any]:
        entry = lab.entry(variant)
        return chat_view.variant_note(entry), gr.Radio(visible=chat_view.mismatched(entry))

    @shown
    def refresh(variant: str) -> tuple[Any, str]:
        entries = lab.entries()
        options = chat_view.options(entries)
        value = variant if variant in [name for _, name in options] else options[0][1]
        return gr.Dropdown(options, value=value), chat_view.missing(entries)

    # bindings
    controls = {
        "history": turns,
        "variant": variant,
        "prompt_format": prompt_format,
        "system_prompt": system,
        **sampling,
    }
    outputs = [text, turns, chatbot, meter]
    streaming: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on(
        [text.submit, send.click], send_message, None, outputs, inputs_kwargs={"message": text, **controls},
        api_name="chat", **streaming,
    )  # fmt: skip
    chatbot.example_select(example, None, outputs, inputs_kwargs=controls, api_name="chat_example", **streaming)
    chatbot.retry(retry, None, outputs, inputs_kwargs=controls, api_name="chat_retry", **streaming)
    chatbot.edit(edit, None, outputs, inputs_kwargs=controls, api_name="chat_edit", **streaming)
    chatbot.undo(undo, [turns], outputs, api_name="chat_undo", show_progress="hidden")
    stop.click(running.stop, None, None, api_name="chat_stop", queue=False)
    new.click(clear, None, outputs, api_name="chat_new", queue=False)
    chatbot.clear(clear, None, outputs, api_name="chat_clear", queue=False)
    for button, write, file in (
        (as_json, conversation.as_json, "conversation.json"),
        (as_markdown, conversation.as_markdown, "conversation.md"),
    ):
        written = button.click(
            shown(write),
            None,
            saved,
            inputs_kwargs={"system_prompt": system, "history": turns},
            api_name=file.replace(".", "_"),
            show_progress="hidden",
        )
        written.success(None, saved, None, js=f"(text) => ({SAVE})(text, '{file}')")
    variant.change(choose, variant, [note, prompt_format], api_name="chat_variant", show_progress="hidden")
    preset.input(lambda preset: PRESETS[preset], preset, system, api_name="chat_preset", show_progress="hidden")
    tab.select(refresh, variant, [variant, missing], api_name="chat_refresh", show_progress="hidden")


def _index(index: int | tuple[int, int]) -> int:
    return index if isinstance(index, int) else index[0]
