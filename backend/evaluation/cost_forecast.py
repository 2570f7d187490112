"""Estimates what judging will cost before it starts: calls, tokens, dollars and seconds, each as (least, most)."""

from collections.abc import Sequence
from typing import NamedTuple

from backend.evaluation.imported_answers import ImportedAnswer
from backend.evaluation.request import EvaluateRequest
from backend.judge import check, prompt
from backend.judge.rubric import rubrics
from backend.remote.address import concurrency, is_local
from backend.remote.prices import Price

CHARACTERS = (5.0, 3.0)
"""Characters per token: 5 for plain English, 3 for code and other languages."""
ROW = (300, 3000)
"""Characters of an instruction with its reference, if the rows are not known yet."""
SHORT = 40  # tokens of the shortest answer
REPLY = (70, 200)  # tokens of a judge's reply
SECONDS = (0.7, 3.0)  # of one call to an address


class CostForecast(NamedTuple):
    """`tokens` are input and output together. `dollars` is None if no price is known, `seconds` if it is unknown."""

    calls: int
    tokens: tuple[int, int]
    dollars: tuple[float, float] | None
    seconds: tuple[float, float] | None
    checks: int = 0
    """Calls of the judge check, which is made once for each judge and rubric. Included in `calls`."""


def forecast_cost(
    request: EvaluateRequest, rows: int, price: Price | None, given: Sequence[ImportedAnswer] = ()
) -> CostForecast:
    """`rows`: the number of rows, or the most. `given`: imported answers."""
    if request.judge.kind in ("rule", "given"):
        return CostForecast(0, (0, 0), (0.0, 0.0), (0.0, 0.0))
    rubric, spec = rubrics()[request.judge.rubric], request.judge
    fixed = len(prompt.system(rubric)) + 400
    answers = len(request.variants) * rows
    checks = len(check.probe_tasks()) if request.check and request.way == "score" else 0
    if request.way == "winner":
        calls = rows * len(request.variants) * (len(request.variants) - 1)
    else:
        calls = answers * spec.repeats + min(request.rejudged, answers)
    low, high = _characters(request, given)
    tokens_in = [round(calls * (fixed + size) / per) for size, per in zip((low, high), CHARACTERS, strict=True)]
    tokens_in = [n + round(checks * (fixed + 300) / per) for n, per in zip(tokens_in, CHARACTERS, strict=True)]
    tokens_out = [(calls + checks) * n for n in REPLY]
    dollars = None
    if price is not None:
        dollars = price.cost(tokens_in[0], tokens_out[0]), price.cost(tokens_in[1], tokens_out[1])
    together = spec.together or concurrency(spec.address)
    seconds = None
    if spec.kind == "endpoint" and not is_local(spec.address):
        seconds = ((calls + checks) * SECONDS[0] / together, (calls + checks) * SECONDS[1] / together)
    whole = tokens_in[0] + tokens_out[0], tokens_in[1] + tokens_out[1]
    return CostForecast(calls + checks, whole, dollars, seconds, checks)


def _characters(request: EvaluateRequest, given: Sequence[ImportedAnswer]) -> tuple[float, float]:
    """Characters of one row with one answer, (least, most). Both are the mean if the answers are known."""
    if given:
        sizes = [len(prompt.blocks(row.messages, row.reference, {"": row.candidate})[0]) for row in given]
        mean = sum(sizes) / len(sizes)
        return mean, mean
    return ROW[0] + SHORT * CHARACTERS[0], ROW[1] + request.sampling.max_tokens * CHARACTERS[1]
