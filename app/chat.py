"""The Chat tab: one person, one variant."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app import forms, guard, show
from app.running import Running
from backend import conversation
from backend.conversation import Turn
from backend.errors import LabError
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


def chat_tab(lab: Lab) -> None:
    running = Running()
    files = tempfile.TemporaryDirectory(prefix="peft-lab-")
    shown = guard.shown(lab.settings)

    # components
    entries = lab.entries()
    ready = [entry for entry in entries if entry.runs]
    with gr.Tab("Chat", id="chat") as tab:
        turns = gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                variant = gr.Dropdown(
                    [(show.option(entry), entry.variant.id) for entry in ready],
                    value=ready[0].variant.id,
                    label="Variant",
                )
                note = gr.Markdown(show.variant_note(ready[0]))
                spoken = gr.Radio(
                    ["as trained", "as its file says"],
                    value="as trained",
                    label="Prompt template",
                    visible=show.mismatched(ready[0]),
                )
                missing = gr.Markdown(show.missing(entries))
                preset = gr.Dropdown(list(PRESETS), value="none", label="System prompt preset")
                system = gr.Textbox(label="System prompt", lines=2, value="", placeholder="Empty: none is sent.")
                with gr.Accordion("How the next token is chosen", open=False):
                    sampling = forms.draw(Sampling)
            with gr.Column(scale=3):
                chatbot = gr.Chatbot(
                    label="Conversation",
                    height=520,
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
                meter = gr.Markdown(show.context([]), elem_id="context-meter")
                with gr.Row():
                    as_json = gr.DownloadButton("Save as JSON", size="sm", interactive=False)
                    as_markdown = gr.DownloadButton("Save as Markdown", size="sm", interactive=False)

    # handlers
    def view(said: list[Turn], box: str, system_text: str, request: gr.Request, over: bool) -> tuple[Any, ...]:
        if not over:
            return box, said, show.chat(said), show.context(said), gr.skip(), gr.skip()
        return box, said, show.chat(said), show.context(said), *saved(system_text, said, request)

    def saved(system_text: str, said: list[Turn], request: gr.Request) -> list[Any]:
        """Both forms of the conversation, as files of this session."""
        session = hashlib.sha256((request.session_hash or "").encode()).hexdigest()  # the client chose it: no path
        folder = Path(files.name) / session
        folder.mkdir(exist_ok=True)
        buttons = []
        for name, content in (("json", conversation.as_json), ("md", conversation.as_markdown)):
            file = folder / f"conversation.{name}"
            file.write_text(content(system_text, said), encoding="utf-8")
            buttons.append(gr.DownloadButton(value=str(file), interactive=bool(said)))
        return buttons

    def answer(message: str, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        """The turn that `message` opens, as it arrives. A refused message goes back into the box."""
        chosen, way, system_text, *values = asking
        sampled = guard.bounded(lab.settings, request, forms.parse(Sampling, values))
        said = [*said, conversation.asked(message)]
        with running.turn(request) as now:
            try:
                reply = lab.reply(chosen, conversation.messages(system_text, said), sampled, way)
            except LabError as error:
                gr.Warning(str(error))
                yield view(said[:-1], message, system_text, request, over=True)
                return
            now.replies.append(reply)
            for _ in watch(now.replies):
                if now.dropped:
                    return
                over = reply.state == "ended"
                yield view([*said, conversation.answered(chosen, reply)], "", system_text, request, over)

    @shown
    def say(message: str, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        yield from answer(message, said, request, *asking)

    @shown
    def example(data: gr.SelectData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        yield from answer(data.value["text"], said, request, *asking)

    @shown
    def retry(data: gr.RetryData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        earlier, message = conversation.before(said, _index(data.index))
        yield from answer(message, earlier, request, *asking)

    @shown
    def edit(data: gr.EditData, said: list[Turn], request: gr.Request, *asking: Any) -> Iterator[tuple[Any, ...]]:
        earlier, _ = conversation.before(said, _index(data.index))
        yield from answer(str(data.value), earlier, request, *asking)

    @shown
    def undo(data: gr.UndoData, said: list[Turn], system_text: str, request: gr.Request) -> tuple[Any, ...]:
        earlier, message = conversation.before(said, _index(data.index))
        return view(earlier, message, system_text, request, over=True)

    @shown
    def clear(request: gr.Request) -> tuple[Any, ...]:
        running.drop(request)
        return view([], "", "", request, over=True)

    @shown
    def choose(chosen: str) -> tuple[Any, Any]:
        entry = lab.entry(chosen)
        return show.variant_note(entry), gr.Radio(visible=show.mismatched(entry))

    @shown
    def refresh(chosen: str) -> tuple[Any, str]:
        now = lab.entries()
        options = [(show.option(entry), entry.variant.id) for entry in now if entry.runs]
        kept = chosen if chosen in [name for _, name in options] else options[0][1]
        return gr.Dropdown(options, value=kept), show.missing(now)

    # bindings
    asking = [turns, variant, spoken, system, *sampling]
    outs = [text, turns, chatbot, meter, as_json, as_markdown]
    many = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on([text.submit, send.click], say, [text, *asking], outs, api_name="chat", **many)
    chatbot.example_select(example, asking, outs, api_name="chat_example", **many)
    chatbot.retry(retry, asking, outs, api_name="chat_retry", **many)
    chatbot.edit(edit, asking, outs, api_name="chat_edit", **many)
    chatbot.undo(undo, [turns, system], outs, api_name="chat_undo", show_progress="hidden")
    stop.click(running.stop, None, None, api_name="chat_stop", queue=False)
    new.click(clear, None, outs, api_name="chat_new", queue=False)
    chatbot.clear(clear, None, outs, api_name="chat_clear", queue=False)
    variant.change(choose, variant, [note, spoken], api_name="chat_variant", show_progress="hidden")
    preset.input(lambda name: PRESETS[name], preset, system, api_name="chat_preset", show_progress="hidden")
    tab.select(refresh, variant, [variant, missing], api_name="chat_refresh", show_progress="hidden")


def _index(index: int | tuple[int, int]) -> int:
    return index if isinstance(index, int) else index[0]
