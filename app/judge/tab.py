"""The Judge tab: start an evaluation, and look at the results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.chat import view as chat_view
from app.judge import form_choices
from app.judge import view as judge_view
from app.judge.form import evaluate_form
from app.judge.ratings_panel import ratings_panel
from app.judge.result_panel import result_panels
from app.polling import UNKNOWN, LiveSection, choices, poll
from backend.evaluation.evaluations import EvaluationStatus
from backend.evaluation.result import Result
from backend.lab import Lab
from backend.training.status import TrainingStatus
from models.catalogue import Entry

VISITING = (
    "You are a visitor here: you can see every verdict. Only the owner sees questions and answers, starts evaluations "
    "and rates answers."
)
INTERVAL = 2.0  # seconds between two ticks while an evaluation is live


@dataclass(frozen=True)
class Snapshot:
    """One reading of evaluations and trainings for all sections of the tab, the newest first."""

    lab: Lab
    runs: Sequence[EvaluationStatus]
    trainings: Sequence[TrainingStatus]
    entries: Sequence[Entry]
    owner: bool
    _checked: dict[str, EvaluationStatus] = field(default_factory=dict)
    _results: dict[str, Result | None] = field(default_factory=dict)

    def chosen_or_newest(self, chosen: Any) -> EvaluationStatus | None:
        """The chosen evaluation, or the newest if there is none."""
        status = next((run for run in self.runs if run.id == chosen), self.runs[0] if self.runs else None)
        if status is None:
            return None
        if status.id not in self._checked:
            self._checked[status.id] = self.lab.evaluations.checked(status)
        return self._checked[status.id]

    def result(self, chosen: Any) -> Result | None:
        """The results so far of the chosen evaluation."""
        status = self.chosen_or_newest(chosen)
        if status is None or not status.spec:
            return None
        if status.id not in self._results:
            self._results[status.id] = self.lab.evaluations.result(status.id)
        return self._results[status.id]


def judge_tab(lab: Lab) -> None:
    with gr.Tab("Judge", id="judge") as tab:
        visiting = gr.Markdown(VISITING, visible=False)
        evaluation_list = gr.Dropdown([], label="Evaluation", interactive=True, render=False)
        form = evaluate_form(lab, tab, evaluation_list)
        evaluation_list.render()
        nothing = gr.Markdown("Nothing has been evaluated yet. Choose variants, rows and a judge, and press Start.")

        def view(snapshot: Snapshot, chosen: Any) -> list[Any]:
            listed = choices(judge_view.options(snapshot.runs), None if chosen is UNKNOWN else chosen)
            return [listed, gr.update(visible=not snapshot.runs), *_lists(snapshot)]

        events = [form.started, evaluation_list.input(lambda: None, None, None, api_visibility="private")]
        lists = LiveSection([evaluation_list, nothing, *form.lists], view, events, {"evaluation": evaluation_list})
        sections = [lists, *result_panels(lab, evaluation_list), ratings_panel(lab, evaluation_list)]

        def read(owner: bool) -> tuple[Snapshot, bool]:
            lab.evaluations.reap_orphans()
            runs = lab.evaluations.statuses()
            snapshot = Snapshot(lab, runs, lab.training.statuses(), lab.entries(), owner)
            return snapshot, any(run.live for run in runs)

        poll(lab, tab, "judge", sections, read, visiting, INTERVAL)


def _lists(snapshot: Snapshot) -> list[Any]:
    """The variants, sources of rows and judges that can be chosen now."""
    variants = gr.update(choices=chat_view.options(snapshot.entries))
    sources = gr.update(choices=form_choices.sources(snapshot.trainings))
    return [variants, sources, gr.update(choices=form_choices.judges(snapshot.lab.settings, snapshot.entries))]
