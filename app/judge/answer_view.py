"""One row or one answer of an evaluation: the heat map, and all there is to know of a cell. Knows no gradio."""

import html
from typing import Any

from backend.evaluation.contrasts import failure, values
from backend.evaluation.human_ratings import FEWEST, MOST, RatingTask
from backend.evaluation.records import Answer, Question
from backend.evaluation.result import Result
from backend.judge.prompt import conversation
from backend.judge.score import Score

EVERY = ("all rows", "big disagreements", "flagged", "failures", "cut answers")
APART = 0.5
"""Of the scale: as far as two variants must be from each other on a row for a big disagreement."""
HEAT_ROWS = 500
PRE = "white-space:pre-wrap;overflow-wrap:anywhere"


def heat(result: Result, which: str, owner: bool = True) -> dict[str, Any]:
    """Rows x variants as a table with grounds: the greener, the more points. Failures and cut answers are marked. What
    was asked is for the owner."""
    rows = [question for question in result.questions if _wanted(result, question, which)][:HEAT_ROWS]
    names = list(result.spec.variants)
    data, styles = [], []
    for one in rows:
        cells = [_heat(result, one.id, name) for name in names]
        data.append([one.id, *(text for text, _ in cells), conversation(one.messages)[:120] if owner else ""])
        styles.append(["", *(style for _, style in cells), "opacity:.7"])
    return {"headers": ["row", *names, "question"], "data": data, "metadata": {"styling": styles}}


def _heat(result: Result, row: str, name: str) -> tuple[str, str]:
    cell = result.table.cells.get((row, name))
    if cell is None:
        return "", ""
    if status := failure(result.table, row, name):
        return f"✗ {status}", "background:#b279a233"
    got = values(result.table, row, name)
    if got is None:
        return "", ""
    value, low, high = result.rubric.primary_of(got), result.rubric.low, result.rubric.high
    share = (value - low) / (high - low)
    mark = " ✂" if cell.cut else ""
    mark += " ⚑" if _flags(result, row, name) else ""
    colour = f"background:rgba({round(214 - 140 * share)},{round(90 + 60 * share)},{round(80 + 10 * share)},.45)"
    return f"{value:.2f}{mark}", colour


def _flags(result: Result, row: str, name: str) -> tuple[str, ...]:
    score = result.scores.get((row, name))
    return score.flags if score else ()


def _wanted(result: Result, question: Question, which: str) -> bool:
    names = result.spec.variants
    match which:
        case "big disagreements":
            got = [
                result.rubric.primary_of(v)
                for name in names
                if (v := values(result.table, question.id, name)) is not None
            ]
            return len(got) > 1 and max(got) - min(got) >= APART * (result.rubric.high - result.rubric.low)
        case "flagged":
            return any(_flags(result, question.id, name) for name in names) or question.leaked
        case "failures":
            return any(failure(result.table, question.id, name) for name in names)
        case "cut answers":
            return any((answer := result.answers.get((question.id, name))) and answer.cut for name in names)
    return True


def cell(result: Result, row: str, name: str) -> str:
    """Everything about one answer, in HTML: what models wrote is text here and nothing else."""
    question = next((one for one in result.questions if one.id == row), None)
    answer, score = result.answers.get((row, name)), result.scores.get((row, name))
    if question is None:
        return ""
    parts = [f"<h4>Row {html.escape(row)} · {html.escape(name)}</h4>"]
    parts.append(_text("Question", conversation(question.messages)))
    parts.append(_text("Reference", question.reference or "(none)"))
    parts.append(_text(_answered(answer), (answer.text or answer.error) if answer else "(not answered yet)"))
    parts.append(_judged(score) if score else _came(answer))
    return "".join(parts)


def _answered(answer: Answer | None) -> str:
    if answer is None or answer.error:
        return "Answer"
    length = f" ({answer.tokens:,} tokens)" if answer.tokens else ""
    return f"Answer{length}" + (" – ⚠ CUT at its limit" if answer.cut else "")


def _came(answer: Answer | None) -> str:
    if answer is None or answer.score is None:
        return "<p>Not judged.</p>"
    return f"<p><b>Score {answer.score:g}</b>, which came along.</p>" + _text("Explanation", answer.explanation or "–")


def _judged(score: Score) -> str:
    points = ", ".join(f"{name} {value:g}" for name, value in score.values.items())
    means = ", ".join(f"{name} {value:.2f}" for name, value in score.expected.items())
    told = [f"<p><b>{html.escape(points or f'No verdict: {score.status}')}</b></p>"]
    told += [f"<p>As means over its own probabilities: {html.escape(means)}</p>"] if means else []
    told += [f"<p>{html.escape(score.why)}</p>"] if score.why else []
    told += [f"<p>Flags: {html.escape(', '.join(score.flags))}</p>"] if score.flags else []
    told += [_text("Evidence", score.evidence)] if score.evidence else []
    told += [_folded("The raw reply", score.reply)] if score.reply else []
    if score.prompt:
        said = "\n\n".join(f"[{one['role']}]\n{one['content']}" for one in score.prompt)
        told.append(_folded("The exact prompt", said))
    if score.attempts:
        told.append(
            f"<p>{score.attempts} calls, {score.tokens_in + score.tokens_out:,} tokens, {score.seconds:.1f} s.</p>"
        )
    return "".join(told)


def rating(shown: RatingTask | None) -> str:
    """An answer to be rated, without a word of whose it is; HTML."""
    if shown is None:
        return "<p>Nothing is left to rate here.</p>"
    parts = [f"<p>{shown.done} of {shown.wanted} rated. {FEWEST} to {MOST} rows are worth it; stop when you like.</p>"]
    parts.append(_text("Question", conversation(shown.question.messages)))
    if shown.question.reference:
        parts.append(_text("Reference", shown.question.reference))
    parts.append(_text("Answer" + (" – ⚠ CUT at its limit" if shown.answer.cut else ""), shown.answer.text))
    return "".join(parts)


def _text(title: str, text: str) -> str:
    return f'<p style="margin-bottom:0"><b>{html.escape(title)}</b></p><pre style="{PRE}">{html.escape(text)}</pre>'


def _folded(title: str, text: str) -> str:
    return f'<details><summary>{html.escape(title)}</summary><pre style="{PRE}">{html.escape(text)}</pre></details>'
