"""The Judge tab: evaluate, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
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

VISITING = (
    "You are a visitor here: you may look at every verdict. What was asked and answered is shown to the owner, who "
    "also evaluates and rates."
)
PACE = 2.0


@dataclass(frozen=True)
class Snapshot:
    """Evaluations, the newest first."""

    lab: Lab
    runs: Sequence[EvaluationStatus]
    owner: bool

    def named(self, chosen: Any) -> EvaluationStatus | None:
        """The chosen one, else the newest."""
        one = next((one for one in self.runs if one.id == chosen), self.runs[0] if self.runs else None)
        return self.lab.evaluations.checked(one) if one else None

    def result(self, chosen: Any) -> Result | None:
        """What there is of the chosen one so far."""
        one = self.named(chosen)
        return self.lab.evaluations.result(one.id) if one and one.spec else None


def judge_tab(lab: Lab) -> None:
    with gr.Tab("Judge", id="judge") as tab:
        visiting = gr.Markdown(VISITING, visible=False)
        which = gr.Dropdown([], label="Evaluation", interactive=True, render=False)
        form = evaluate_form(lab, tab, which)
        which.render()
        nothing = gr.Markdown("Nothing has been evaluated yet. Choose variants, rows and a judge, and press Start.")

        def view(now: Snapshot, chosen: Any) -> list[Any]:
            listed = choices(judge_view.options(now.runs), None if chosen is UNKNOWN else chosen)
            return [listed, gr.update(visible=not now.runs), *_lists(lab)]

        acted = [form.started, which.input(lambda: None, None, None, api_visibility="private")]
        parts = [LiveSection([which, nothing, *form.lists], view, acted, [which])]
        parts += result_panels(lab, which)
        parts.append(ratings_panel(lab, which))

        def see(owner: bool) -> tuple[Snapshot, bool]:
            lab.evaluations.tend()
            found = lab.evaluations.standings()
            return Snapshot(lab, found, owner), any(one.live for one in found)

        poll(lab, tab, "judge", parts, see, visiting, PACE)


def _lists(lab: Lab) -> list[Any]:
    """Variants, rows and judges there are now."""
    variants = gr.update(choices=chat_view.options(lab.entries()))
    return [variants, gr.update(choices=form_choices.sources(lab)), gr.update(choices=form_choices.judges(lab))]
