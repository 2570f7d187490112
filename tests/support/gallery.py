"""python tests/support/gallery.py PORT

A page with every payload in each component through which the app shows what is not its own, made as the app makes it.
"""

import sys
from typing import Any

import gradio as gr

from app import guard, markup
from app.chat import view as chat_view
from app.judge import ratings_panel
from app.train import view as train_view
from backend.core.messages import Message, plain
from backend.evaluation.human_ratings import RatingTask
from backend.evaluation.records import Answer, Question
from backend.inference.conversation import Turn
from backend.report import figures
from backend.training.dataset_report import Sample
from backend.training.status import Curve, TrainingStatus
from support.payloads import PAYLOADS


def talk() -> list[dict[str, str]]:
    """Every payload as a question, an answer and an error."""
    turns = []
    for text in PAYLOADS:
        said = plain(text)
        turns += [Turn(role="user", content=said), Turn(role="assistant", content=said, variant="x", error=said)]
    return chat_view.chat(turns)


def markdown() -> str:
    """In a heading, in bold, in a list, in a table, and at the beginning of a paragraph."""
    shown = [markup.plain(text) for text in PAYLOADS]
    parts = [f"## {text}\n\n**{text}**: {text}\n\n{text}\n\n- a: {text}\n- {text}" for text in shown]
    rows = "\n".join(f"| {text} | {text} |" for text in shown)
    pages = "\n".join(f"- {markup.link('Page', text)}" for text in PAYLOADS)
    return "\n\n".join([*parts, f"| a | b |\n|---|---|\n{rows}", pages])


def page_html() -> str:
    """As the Judge tab and the Train tab show texts."""
    parts = [
        ratings_panel.task_html(
            RatingTask(
                Question(id="1", cluster="1", messages=[Message(role="user", content=text)], reference=text),
                Answer(row="1", variant="x", text=text), 0, 10,
            )
        )
        for text in PAYLOADS
    ]  # fmt: skip
    pieces = [Sample(line=1, tokens=1, learnt=1, pieces=[(text, True)], cut=text) for text in PAYLOADS]
    return "".join(parts) + train_view.samples(pieces)


def table() -> dict[str, Any]:
    """As headers and as cells, styled like the map of answers."""
    some = PAYLOADS[:8]
    rows = [[text] * len(some) for text in PAYLOADS]
    styles = [["background:rgba(1,2,3,.4)"] * len(some) for _ in PAYLOADS]
    return {"headers": some, "data": rows, "metadata": {"styling": styles}}


def plots() -> Any:
    curve = Curve(steps=[1, 2], losses=[2.0, 1.0], rates=[1.0, 1.0], norms=[1.0, 1.0])
    one = TrainingStatus(id="x", kind="train", name="x", state="done", curve=curve)
    return figures.losses([(text, one) for text in PAYLOADS])


def toasts() -> None:
    for text in PAYLOADS:
        guard.info(text)
        guard.warning(text)


def refuse() -> None:
    raise guard.error("".join(PAYLOADS))


def main() -> None:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Chatbot(talk(), label="Talk", height=400, editable="user", buttons=["copy"], **markup.CHATBOT)
        gr.Markdown(markdown(), elem_id="markdown")
        gr.HTML(page_html())
        gr.Dataframe(table(), interactive=False, label="Table", wrap=True)
        gr.Dropdown([(text, str(n)) for n, text in enumerate(PAYLOADS)], value="0", label="Choice", interactive=True)
        gr.Plot(plots(), label="Plot")
        gr.Textbox("".join(PAYLOADS), label="Text", lines=4)
        gr.Button("Toasts").click(toasts, None, None)
        gr.Button("Error").click(refuse, None, None)
    page.launch(
        server_name="127.0.0.1", server_port=int(sys.argv[1]), css=markup.CSS, head=markup.HEAD, ssr_mode=False,
        quiet=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
