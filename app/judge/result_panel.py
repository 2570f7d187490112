"""Part of the Judge tab: one evaluation, its sentence, tables, figures, every answer, and what can be saved of it."""

from typing import Any

import gradio as gr

from app import guard
from app.browser_download import download_button, hidden_boxes
from app.judge import answer_view, result_view
from app.judge import view as judge_view
from app.polling import LiveSection
from backend.core.errors import LabError
from backend.lab import Lab
from backend.report import figures
from backend.report.files import EXPORTS, TEXTS, export


def result_panels(lab: Lab, which: Any) -> list[LiveSection]:
    """The parts below the choice of an evaluation."""
    return [_one(lab, which), _tables(which), _cells(lab, which), _saved(lab, which)]


def _one(lab: Lab, which: Any) -> LiveSection:
    """How it stands, and what it found in a sentence."""
    shown = guard.shown(lab.settings)

    # components
    told = gr.Markdown()
    with gr.Row():
        stop = gr.Button("Stop evaluation", size="sm", visible=False, variant="stop")
        resume = gr.Button("Resume evaluation", size="sm", visible=False, variant="primary")
    headline = gr.Markdown(elem_id="verdict")

    # handlers
    def acting(what: str, act: Any) -> Any:
        @shown
        def handler(request: gr.Request, run: str | None) -> None:
            guard.require_owner(lab.settings, request, what)
            if not run:
                raise LabError("No evaluation is chosen. Choose one in “Evaluation”.")
            act(run)

        return handler

    def view(now: Any, chosen: Any) -> list[Any]:
        status, result = now.named(chosen), now.result(chosen)
        if status is None:
            return ["", gr.update(visible=False), gr.update(visible=False), ""]
        return [
            judge_view.progress(status, now.owner),
            gr.update(visible=status.live, value="Kill it" if status.state == "stopping" else "Stop evaluation"),
            gr.update(
                visible=status.resumable, value="Try failures again" if status.state == "done" else "Resume evaluation"
            ),
            result_view.headline(result) if result and result.questions else "",
        ]

    # bindings
    acted = [
        stop.click(acting("stop evaluations", lab.evaluations.stop), which, None, api_name="stop_evaluation"),
        resume.click(acting("resume evaluations", lab.evaluations.resume), which, None, api_name="resume_evaluation"),
    ]
    return LiveSection([told, stop, resume, headline], view, acted, {"evaluation": which})


def _tables(which: Any) -> LiveSection:
    """Numbers, and what to know before believing them."""
    with gr.Column(visible=False) as group:
        table = gr.Dataframe(
            value=[], headers=result_view.VARIANTS, label="Variants", interactive=False, wrap=True, max_height=300
        )
        plot = gr.Plot(label="Differences with 95 % intervals")
        contrasts = gr.Dataframe(
            value=[], headers=result_view.CONTRASTS, label="Planned comparisons", interactive=False, wrap=True,
            max_height=300, column_widths=[180, 100, 105, 75, 80, 75, 95, 115, 105, 75, 90, 85],
        )  # fmt: skip
    about = gr.Markdown()
    criteria = gr.Markdown()
    with gr.Accordion("The judge check, probe by probe", open=False, visible=False) as fold:
        check = gr.Dataframe(
            value=[], headers=["probe", "kind", "came out", "why"], label="Judge check", interactive=False, wrap=True
        )

    def view(now: Any, chosen: Any) -> list[Any]:
        result = now.result(chosen)
        if result is None or not result.questions:
            return [gr.update(visible=False), [], None, [], "", "", gr.update(visible=False), []]
        scored = result.spec.way == "score"
        return [
            gr.update(visible=scored),
            result_view.variants(result),
            figures.forest(result.verdict)
            if any(contrast.difference.n for contrast in result.verdict.contrasts)
            else None,
            result_view.contrasts(result),
            result_view.about(result, now.owner),
            result_view.criteria(result),
            gr.update(visible=result.check is not None),
            result_view.check(result),
        ]

    return LiveSection([group, table, plot, contrasts, about, criteria, fold, check], view, [], {"evaluation": which})


def _cells(lab: Lab, which: Any) -> LiveSection:
    """Rows x variants; a cell opens its answer."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Every answer: rows × variants", open=True):
        show = gr.Radio(list(answer_view.EVERY), value=answer_view.EVERY[0], label="Show")
        table = gr.Dataframe(
            value=[], headers=["row"], label="Points. Click a cell to open its answer; ✂ cut, ⚑ flagged, ✗ no verdict",
            interactive=False, max_height=420,
        )  # fmt: skip
        cell = gr.HTML()

    # handlers
    def view(now: Any, chosen: Any, wanted: Any) -> list[Any]:
        result = now.result(chosen)
        if result is None:
            return [gr.update(value={"headers": ["row"], "data": []})]
        return [
            gr.update(
                value=answer_view.heat(result, wanted if isinstance(wanted, str) else answer_view.EVERY[0], now.owner)
            )
        ]

    @shown
    def look(run: str | None, event: gr.SelectData, request: gr.Request) -> str:
        """The row as the page shows it, which may be sorted."""
        guard.require_owner(lab.settings, request, "open answers")
        row, column = event.row_value, event.index[1]
        if not run or not row:
            return ""
        result = lab.evaluations.result(run)
        names = result.spec.variants
        name = names[column - 1] if 0 < column <= len(names) else names[0]
        return answer_view.cell(result, str(row[0]), name)

    # bindings
    table.select(look, which, cell, api_visibility="private", show_progress="hidden")
    which.input(lambda: "", None, cell, api_visibility="private", show_progress="hidden")
    acted = [show.input(lambda: None, None, None, api_visibility="private")]
    return LiveSection([table], view, acted, {"evaluation": which, "show": show})


def _saved(lab: Lab, which: Any) -> LiveSection:
    """The methods paragraph, and files for elsewhere."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Save, cite, train on", open=False):
        methods = gr.Textbox(label="Methods, for a paper", lines=6, interactive=False, buttons=["copy"])
        with gr.Row():
            what = gr.Dropdown(list(EXPORTS), value=next(iter(EXPORTS)), label="What to save", interactive=True)
            save = gr.Button("Save it")
    with gr.Accordion("Log of the evaluation", open=False):
        log = gr.Textbox(label="The newest lines it printed", lines=8, max_lines=8, interactive=False)

    # handlers
    @shown
    def write(run: str | None, wanted: str, request: gr.Request) -> list[str]:
        if wanted in TEXTS:
            guard.require_owner(lab.settings, request, "save what was asked and answered")
        if not run:
            raise LabError("No evaluation is chosen. Choose one in “Evaluation”.")
        text = export(lab.evaluations.result(run), wanted)
        return [text, f"{run[:19]}.{EXPORTS[wanted]}"]

    def view(now: Any, chosen: Any) -> list[Any]:
        status, result = now.named(chosen), now.result(chosen)
        methods = export(result, "methods paragraph") if result and result.questions else ""
        return [methods, status.log if status and now.owner else ""]

    download_button(save, write, [which, what], hidden_boxes("Saved evaluation"), "save_evaluation")
    return LiveSection([methods, log], view, [], {"evaluation": which})
