"""Plotly figures of trainings and verdicts. Knows no gradio. Names are escaped, because Plotly reads tags in them."""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backend.evaluation.verdict import Verdict
from backend.training.dataset_report import DatasetReport
from backend.training.status import TrainingStatus, smoothed

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2")
MOST = 1500  # points of a line on the page


def losses(found: Sequence[tuple[str, TrainingStatus]]) -> Any:
    """Loss, raw and smoothed, with the evaluations; below it the learning rate and the gradient norm."""
    figure = make_subplots(
        rows=2, cols=2, specs=[[{"colspan": 2}, None], [{}, {}]], row_heights=[0.68, 0.32], vertical_spacing=0.16,
        subplot_titles=("loss", "learning rate", "gradient norm"),
    )  # fmt: skip
    for number, (title, one) in enumerate(found):
        name = html.escape(title)
        colour, curve = COLOURS[number % len(COLOURS)], one.curve
        every = max(1, len(curve.steps) // MOST)
        steps = curve.steps[::every]
        line = {"color": colour, "width": 1}
        lines: list[tuple[int, int, list[float], dict[str, Any]]] = [
            (1, 1, curve.losses[::every], {"opacity": 0.35, "name": f"{name}, raw", "line": line}),
            (1, 1, smoothed(curve.losses)[::every], {"name": name, "line": {"color": colour, "width": 2.5}}),
            (2, 1, curve.rates[::every], {"showlegend": False, "name": name, "line": line}),
            (2, 2, curve.norms[::every], {"showlegend": False, "name": name, "line": line}),
        ]
        for row, column, values, how in lines:
            figure.add_trace(go.Scatter(x=steps, y=values, mode="lines", **how), row=row, col=column)
        if curve.evaluated:
            marks = {"color": colour, "size": 9, "symbol": "diamond", "line": {"width": 1, "color": "white"}}
            figure.add_trace(
                go.Scatter(x=curve.evaluated, y=curve.evaluations, mode="lines+markers", name=f"{name}, held out",
                           marker=marks, line={"color": colour, "width": 1, "dash": "dot"}),
                row=1, col=1,
            )  # fmt: skip
    figure.update_xaxes(title_text="step", row=2)
    return _plain(figure, 480)


def lengths(found: DatasetReport) -> Any:
    """How long the rows are, and where they are cut."""
    middles = [(a + b) / 2 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    widths = [max(1, b - a) for a, b in zip(found.edges, found.edges[1:], strict=False)]
    colours = [COLOURS[3] if middle > found.limit else COLOURS[0] for middle in middles]
    figure = go.Figure(go.Bar(x=middles, y=found.counts, width=widths, marker={"color": colours}))
    if found.limit <= found.edges[-1] * 1.2:
        figure.add_vline(x=found.limit, line_dash="dash", annotation_text=f"limit {found.limit:,}")
    figure.update_xaxes(title_text="tokens in a row", range=[0, found.edges[-1] * 1.05])
    figure.update_yaxes(title_text="rows")
    return _plain(figure, 260)


def forest(found: Verdict) -> Any:
    """Every planned difference with its interval; what lies beside the line of zero is clear."""
    shown = [one for one in reversed(found.contrasts) if one.difference.mean is not None]
    figure = go.Figure()
    for one in shown:
        gap, name, against = one.difference, html.escape(one.variant), html.escape(one.against)
        colour = {"better": COLOURS[2], "worse": COLOURS[3]}.get(one.decided, "#888888")
        half = {"type": "data", "array": [(gap.high or 0) - (gap.mean or 0)], "visible": gap.high is not None}
        figure.add_trace(
            go.Scatter(x=[gap.mean], y=[f"{name} − {against}"], mode="markers", error_x=half,
                       marker={"color": colour, "size": 11, "symbol": "square"}, showlegend=False,
                       hovertext=f"{one.decided}, {gap.n} rows", name=name)
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="#888888")
    figure.update_xaxes(title_text=f"difference, {html.escape(found.title)}", zeroline=False)
    figure = _plain(figure, 145 + 46 * max(1, len(shown)))
    figure.update_layout(margin={"l": 180, "r": 20, "t": 45, "b": 50})
    return figure


def _plain(figure: Any, height: int) -> Any:
    figure.update_layout(height=height, margin={"l": 50, "r": 20, "t": 40, "b": 40}, template="plotly_white")
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 0}, uirevision="keep")
    figure.update_yaxes(exponentformat="e")
    return figure
