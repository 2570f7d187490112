"""One evaluation: its verdict, tables, figures, every answer, and downloads."""

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


def result_panels(lab: Lab, evaluation_list: Any) -> list[LiveSection]:
    """The sections below the list of evaluations."""
    return [
        _verdict(lab, evaluation_list),
        _tables(evaluation_list),
        _answers(lab, evaluation_list),
        _downloads(lab, evaluation_list),
    ]


def _verdict(lab: Lab, evaluation_list: Any) -> LiveSection:
    """The status of the evaluation, and its verdict in a sentence."""
    shown = guard.shown(lab.settings)

    # components
    progress = gr.Markdown()
    with gr.Row():
        stop = gr.Button("Stop evaluation", size="sm", visible=False, variant="stop")
        resume = gr.Button("Resume evaluation", size="sm", visible=False, variant="primary")
    headline = gr.Markdown(elem_id="verdict")

    # handlers
    def owner_only(what: str, act: Any) -> Any:
        """A handler that calls `act` with the chosen run, for the owner."""

        @shown
        def handler(request: gr.Request, run: str | None) -> None:
            guard.require_owner(lab.settings, request, what)
            if not run:
                raise LabError("No evaluation is chosen. Choose one in “Evaluation”.")
            act(run)

        return handler

    def view(snapshot: Any, chosen: Any) -> list[Any]:
        status, result = snapshot.chosen_or_newest(chosen), snapshot.result(chosen)
        if status is None:
            return ["", gr.update(visible=False), gr.update(visible=False), ""]
        return [
            judge_view.progress(status, snapshot.owner),
            gr.update(visible=status.live, value="Kill" if status.state == "stopping" else "Stop evaluation"),
            gr.update(
                visible=status.resumable, value="Repeat failures" if status.state == "done" else "Resume evaluation"
            ),
            result_view.headline(result) if result and result.questions else "",
        ]

    # bindings
    events = [
        stop.click(
            owner_only("stop evaluations", lab.evaluations.stop), evaluation_list, None, api_name="stop_evaluation"
        ),
        resume.click(
            owner_only("resume evaluations", lab.evaluations.resume),
            evaluation_list,
            None,
            api_name="resume_evaluation",
        ),
    ]
    return LiveSection([progress, stop, resume, headline], view, events, {"evaluation": evaluation_list})


def _tables(evaluation_list: Any) -> LiveSection:
    """Tables of variants, contrasts and criteria, and facts about the judge."""
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
    with gr.Accordion("Judge check: all probes", open=False, visible=False) as fold:
        check = gr.Dataframe(
            value=[], headers=["probe", "kind", "result", "reason"], label="Judge check", interactive=False, wrap=True
        )

    def view(snapshot: Any, chosen: Any) -> list[Any]:
        result = snapshot.result(chosen)
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
            result_view.about(result, snapshot.owner),
            result_view.criteria(result),
            gr.update(visible=result.check is not None),
            result_view.check(result),
        ]

    return LiveSection(
        [group, table, plot, contrasts, about, criteria, fold, check], view, [], {"evaluation": evaluation_list}
    )


def _answers(lab: Lab, evaluation_list: Any) -> LiveSection:
    """The heat map of rows x variants. A click on a cell shows its answer."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("All answers: rows × variants", open=True):
        show = gr.Radio(list(answer_view.FILTERS), value=answer_view.FILTERS[0], label="Show")
        table = gr.Dataframe(
            value=[], headers=["row"], label="Scores. Click a cell to see its answer; ✂ cut, ⚑ flagged, ✗ no score",
            interactive=False, max_height=420,
        )  # fmt: skip
        cell = gr.HTML()

    # handlers
    def view(snapshot: Any, chosen: Any, filter: Any) -> list[Any]:
        result = snapshot.result(chosen)
        if result is None:
            return [gr.update(value={"headers": ["row"], "data": []})]
        return [
            gr.update(
                value=answer_view.heat(
                    result, filter if isinstance(filter, str) else answer_view.FILTERS[0], snapshot.owner
                )
            )
        ]

    @shown
    def show_answer(run: str | None, event: gr.SelectData, request: gr.Request) -> str:
        """`event` has the row as the page shows it, because the table may be sorted."""
        guard.require_owner(lab.settings, request, "see answers")
        row, column = event.row_value, event.index[1]
        if not run or not row:
            return ""
        result = lab.evaluations.result(run)
        names = result.spec.variants
        name = names[column - 1] if 0 < column <= len(names) else names[0]
        return answer_view.cell(result, str(row[0]), name)

    # bindings
    table.select(show_answer, evaluation_list, cell, api_visibility="private", show_progress="hidden")
    evaluation_list.input(lambda: "", None, cell, api_visibility="private", show_progress="hidden")
    events = [show.input(lambda: None, None, None, api_visibility="private")]
    return LiveSection([table], view, events, {"evaluation": evaluation_list, "show": show})


def _downloads(lab: Lab, evaluation_list: Any) -> LiveSection:
    """The methods paragraph, and files of the results."""
    shown = guard.shown(lab.settings)

    # components
    with gr.Accordion("Export and methods", open=False):
        methods = gr.Textbox(label="Methods paragraph for a paper", lines=6, interactive=False, buttons=["copy"])
        with gr.Row():
            what = gr.Dropdown(list(EXPORTS), value=next(iter(EXPORTS)), label="File to save", interactive=True)
            save = gr.Button("Save file")
    with gr.Accordion("Log of the evaluation", open=False):
        log = gr.Textbox(label="Last lines of the log of the evaluation", lines=8, max_lines=8, interactive=False)

    # handlers
    @shown
    def write(run: str | None, file: str, request: gr.Request) -> list[str]:
        if file in TEXTS:
            guard.require_owner(lab.settings, request, "save questions and answers")
        if not run:
            raise LabError("No evaluation is chosen. Choose one in “Evaluation”.")
        text = export(lab.evaluations.result(run), file)
        return [text, f"{run[:19]}.{EXPORTS[file]}"]

    def view(snapshot: Any, chosen: Any) -> list[Any]:
        status, result = snapshot.chosen_or_newest(chosen), snapshot.result(chosen)
        methods = export(result, "methods paragraph") if result and result.questions else ""
        return [methods, status.log if status and snapshot.owner else ""]

    download_button(save, write, [evaluation_list, what], hidden_boxes("Saved evaluation"), "save_evaluation")
    return LiveSection([methods, log], view, [], {"evaluation": evaluation_list})
