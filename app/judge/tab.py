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
    "You are a visitor here: you can see every verdict. Questions and answers are shown only to the owner, who also "
    "evaluates and rates."
)
PACE = 2.0


@dataclass(frozen=True)
class Snapshot:
    """What the tab shows, read once per tick for all its sections. Evaluations are the newest first."""

    lab: Lab
    runs: Sequence[EvaluationStatus]
    trainings: Sequence[TrainingStatus]
    entries: Sequence[Entry]
    owner: bool
    _checked: dict[str, EvaluationStatus] = field(default_factory=dict)
    _results: dict[str, Result | None] = field(default_factory=dict)

    def named(self, chosen: Any) -> EvaluationStatus | None:
        """The chosen evaluation, else the newest."""
        status = next((run for run in self.runs if run.id == chosen), self.runs[0] if self.runs else None)
        if status is None:
            return None
        if status.id not in self._checked:
            self._checked[status.id] = self.lab.evaluations.checked(status)
        return self._checked[status.id]

    def result(self, chosen: Any) -> Result | None:
        """The results of the chosen evaluation so far."""
        status = self.named(chosen)
        if status is None or not status.spec:
            return None
        if status.id not in self._results:
            self._results[status.id] = self.lab.evaluations.result(status.id)
        return self._results[status.id]


def judge_tab(lab: Lab) -> None:
    with gr.Tab("Judge", id="judge") as tab:
        visiting = gr.Markdown(VISITING, visible=False)
        which = gr.Dropdown([], label="Evaluation", interactive=True, render=False)
        form = evaluate_form(lab, tab, which)
        which.render()
        nothing = gr.Markdown("Nothing has been evaluated yet. Choose variants, rows and a judge, and press Start.")

        def view(now: Snapshot, chosen: Any) -> list[Any]:
            listed = choices(judge_view.options(now.runs), None if chosen is UNKNOWN else chosen)
            return [listed, gr.update(visible=not now.runs), *_lists(now)]

        acted = [form.started, which.input(lambda: None, None, None, api_visibility="private")]
        parts = [LiveSection([which, nothing, *form.lists], view, acted, {"evaluation": which})]
        parts += result_panels(lab, which)
        parts.append(ratings_panel(lab, which))

        def see(owner: bool) -> tuple[Snapshot, bool]:
            lab.evaluations.reap_orphans()
            runs = lab.evaluations.statuses()
            now = Snapshot(lab, runs, lab.training.statuses(), lab.entries(), owner)
            return now, any(run.live for run in runs)

        poll(lab, tab, "judge", parts, see, visiting, PACE)


def _lists(now: Snapshot) -> list[Any]:
    """The variants, sources of rows and judges that can be chosen now."""
    variants = gr.update(choices=chat_view.options(now.entries))
    sources = gr.update(choices=form_choices.sources(now.trainings))
    return [variants, sources, gr.update(choices=form_choices.judges(now.lab.settings, now.entries))]
