"""Plotly figures: losses of trainings, lengths of rows, differences of a verdict.

Names are escaped, because Plotly interprets HTML tags in texts.
"""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backend.evaluation.verdict import Verdict
from backend.training.dataset_report import DatasetReport
from backend.training.status import TrainingStatus, smoothed

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2")
MAX_POINTS = 1500  # per curve


def losses(trainings: Sequence[tuple[str, TrainingStatus]]) -> Any:
    """Plot the loss, raw and smoothed, with the eval loss; below it the learning rate and the gradient norm."""
    figure = make_subplots(
        rows=2, cols=2, specs=[[{"colspan": 2}, None], [{}, {}]], row_heights=[0.68, 0.32], vertical_spacing=0.16,
        subplot_titles=("loss", "learning rate", "gradient norm"),
    )  # fmt: skip
    for number, (title, status) in enumerate(trainings):
        name = html.escape(title)
        colour, curve = COLOURS[number % len(COLOURS)], status.curve
        every = max(1, len(curve.steps) // MAX_POINTS)
        steps = curve.steps[::every]
        thin = {"color": colour, "width": 1}
        curves: list[tuple[int, int, list[float], dict[str, Any]]] = [
            (1, 1, curve.losses[::every], {"opacity": 0.35, "name": f"{name}, raw", "line": thin}),
            (1, 1, smoothed(curve.losses)[::every], {"name": name, "line": {"color": colour, "width": 2.5}}),
            (2, 1, curve.rates[::every], {"showlegend": False, "name": name, "line": thin}),
            (2, 2, curve.norms[::every], {"showlegend": False, "name": name, "line": thin}),
        ]
        for row, column, values, options in curves:
            figure.add_trace(go.Scatter(x=steps, y=values, mode="lines", **options), row=row, col=column)
        if curve.evaluated:
            marks = {"color": colour, "size": 9, "symbol": "diamond", "line": {"width": 1, "color": "white"}}
            figure.add_trace(
                go.Scatter(x=curve.evaluated, y=curve.evaluations, mode="lines+markers", name=f"{name}, eval split",
                           marker=marks, line={"color": colour, "width": 1, "dash": "dot"}),
                row=1, col=1,
            )  # fmt: skip
    figure.update_xaxes(title_text="step", row=2)
    return _with_layout(figure, 480)


def lengths(report: DatasetReport) -> Any:
    """Plot the lengths of the rows in tokens, and the limit above which rows are cut."""
    middles = [(a + b) / 2 for a, b in zip(report.edges, report.edges[1:], strict=False)]
    widths = [max(1, b - a) for a, b in zip(report.edges, report.edges[1:], strict=False)]
    colours = [COLOURS[3] if middle > report.limit else COLOURS[0] for middle in middles]
    figure = go.Figure(go.Bar(x=middles, y=report.counts, width=widths, marker={"color": colours}))
    if report.limit <= report.edges[-1] * 1.2:
        figure.add_vline(x=report.limit, line_dash="dash", annotation_text=f"limit {report.limit:,}")
    figure.update_xaxes(title_text="tokens in a row", range=[0, report.edges[-1] * 1.05])
    figure.update_yaxes(title_text="rows")
    return _with_layout(figure, 260)


def forest(verdict: Verdict) -> Any:
    """Plot each planned contrast: the mean difference with its confidence interval."""
    contrasts = [contrast for contrast in reversed(verdict.contrasts) if contrast.difference.mean is not None]
    figure = go.Figure()
    for contrast in contrasts:
        difference, name, against = contrast.difference, html.escape(contrast.variant), html.escape(contrast.against)
        colour = {"better": COLOURS[2], "worse": COLOURS[3]}.get(contrast.decided, "#888888")
        half = {
            "type": "data",
            "array": [(difference.high or 0) - (difference.mean or 0)],
            "visible": difference.high is not None,
        }
        figure.add_trace(
            go.Scatter(x=[difference.mean], y=[f"{name} − {against}"], mode="markers", error_x=half,
                       marker={"color": colour, "size": 11, "symbol": "square"}, showlegend=False,
                       hovertext=f"{contrast.decided}, {difference.n} rows", name=name)
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="#888888")
    figure.update_xaxes(title_text=f"difference, {html.escape(verdict.title)}", zeroline=False)
    figure = _with_layout(figure, 145 + 46 * max(1, len(contrasts)))
    figure.update_layout(margin={"l": 180, "r": 20, "t": 45, "b": 50})
    return figure


def _with_layout(figure: Any, height: int) -> Any:
    figure.update_layout(height=height, margin={"l": 50, "r": 20, "t": 40, "b": 40}, template="plotly_white")
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 0}, uirevision="keep")
    figure.update_yaxes(exponentformat="e")
    return figure
