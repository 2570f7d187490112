"""The heat map of an evaluation, and all facts about one answer. No gradio."""

import html
from typing import Any

from backend.evaluation.contrasts import failure, values
from backend.evaluation.records import Answer, Question
from backend.evaluation.result import Result
from backend.judge.prompt import conversation
from backend.judge.score import Score

FILTERS = ("all rows", "big disagreements", "flagged", "failures", "cut answers")
BIG = 0.5  # share of the scale; scores of a row that differ by as much are a big disagreement
HEAT_ROWS = 500
PRE = "white-space:pre-wrap;overflow-wrap:anywhere"


def heat(result: Result, filter: str, owner: bool = True) -> dict[str, Any]:
    """A table of rows x variants with background colours from red (low) to green (high).

    Marks: ✂ cut, ⚑ flagged, ✗ failed. Only the owner sees the questions.
    """
    rows = [question for question in result.questions if _matches(result, question, filter)][:HEAT_ROWS]
    names = list(result.spec.variants)
    data, styles = [], []
    for row in rows:
        cells = [_heat(result, row.id, name) for name in names]
        data.append([row.id, *(text for text, _ in cells), conversation(row.messages)[:120] if owner else ""])
        styles.append(["", *(style for _, style in cells), "opacity:.7"])
    return {"headers": ["row", *names, "question"], "data": data, "metadata": {"styling": styles}}


def _heat(result: Result, row: str, name: str) -> tuple[str, str]:
    cell = result.table.cells.get((row, name))
    if cell is None:
        return "", ""
    if status := failure(result.table, row, name):
        return f"✗ {status}", "background:#b279a233"
    points = values(result.table, row, name)
    if points is None:
        return "", ""
    value, low, high = result.rubric.primary_of(points), result.rubric.low, result.rubric.high
    share = (value - low) / (high - low)
    mark = " ✂" if cell.cut else ""
    mark += " ⚑" if _flags(result, row, name) else ""
    colour = f"background:rgba({round(214 - 140 * share)},{round(90 + 60 * share)},{round(80 + 10 * share)},.45)"
    return f"{value:.2f}{mark}", colour


def _flags(result: Result, row: str, name: str) -> tuple[str, ...]:
    score = result.scores.get((row, name))
    return score.flags if score else ()


def _matches(result: Result, question: Question, filter: str) -> bool:
    names = result.spec.variants
    match filter:
        case "big disagreements":
            scores = [
                result.rubric.primary_of(points)
                for name in names
                if (points := values(result.table, question.id, name)) is not None
            ]
            return len(scores) > 1 and max(scores) - min(scores) >= BIG * (result.rubric.high - result.rubric.low)
        case "flagged":
            return any(_flags(result, question.id, name) for name in names) or question.leaked
        case "failures":
            return any(failure(result.table, question.id, name) for name in names)
        case "cut answers":
            return any((answer := result.answers.get((question.id, name))) and answer.cut for name in names)
    return True


def cell(result: Result, row: str, name: str) -> str:
    """All facts about one answer, in HTML. Text of models is escaped."""
    question = next((item for item in result.questions if item.id == row), None)
    answer, score = result.answers.get((row, name)), result.scores.get((row, name))
    if question is None:
        return ""
    parts = [f"<h4>Row {html.escape(row)} · {html.escape(name)}</h4>"]
    parts.append(text_block("Question", conversation(question.messages)))
    parts.append(text_block("Reference", question.reference or "(none)"))
    parts.append(text_block(_answer_title(answer), (answer.text or answer.error) if answer else "(not answered yet)"))
    parts.append(_score(score) if score else _imported_score(answer))
    return "".join(parts)


def _answer_title(answer: Answer | None) -> str:
    if answer is None or answer.error:
        return "Answer"
    length = f" ({answer.tokens:,} tokens)" if answer.tokens else ""
    return f"Answer{length}" + (" – ⚠ CUT at its limit" if answer.cut else "")


def _imported_score(answer: Answer | None) -> str:
    if answer is None or answer.score is None:
        return "<p>Not judged.</p>"
    return f"<p><b>Score {answer.score:g}</b>, imported with the answer.</p>" + text_block(
        "Explanation", answer.explanation or "–"
    )


def _score(score: Score) -> str:
    points = ", ".join(f"{name} {value:g}" for name, value in score.values.items())
    means = ", ".join(f"{name} {value:.2f}" for name, value in score.expected.items())
    parts = [f"<p><b>{html.escape(points or f'No score: {score.status}')}</b></p>"]
    parts += [f"<p>Means over the probabilities of the judge's tokens: {html.escape(means)}</p>"] if means else []
    parts += [f"<p>{html.escape(score.why)}</p>"] if score.why else []
    parts += [f"<p>Flags: {html.escape(', '.join(score.flags))}</p>"] if score.flags else []
    parts += [text_block("Evidence", score.evidence)] if score.evidence else []
    parts += [_folded("The reply", score.reply)] if score.reply else []
    if score.prompt:
        prompt = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in score.prompt)
        parts.append(_folded("The prompt", prompt))
    if score.attempts:
        parts.append(
            f"<p>{score.attempts} calls, {score.tokens_in + score.tokens_out:,} tokens, {score.seconds:.1f} s.</p>"
        )
    return "".join(parts)


def text_block(title: str, text: str) -> str:
    """A title above preformatted text, in HTML."""
    return f'<p style="margin-bottom:0"><b>{html.escape(title)}</b></p><pre style="{PRE}">{html.escape(text)}</pre>'


def _folded(title: str, text: str) -> str:
    return f'<details><summary>{html.escape(title)}</summary><pre style="{PRE}">{html.escape(text)}</pre></details>'
