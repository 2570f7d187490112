"""What judging will cost, said before it begins: calls, tokens, dollars and minutes, from least to most."""

from collections.abc import Sequence
from typing import NamedTuple

from backend.evaluation.imported_answers import ImportedAnswer
from backend.evaluation.request import EvaluateRequest
from backend.judge import check, prompt
from backend.judge.rubric import rubrics
from backend.remote.address import concurrency, is_local
from backend.remote.prices import Price

CHARACTERS = (5.0, 3.0)
"""Of text to a token of a judge: more for plain English, fewer for code and other languages."""
ROW = (300, 3000)
"""Characters of an instruction with its reference, where the rows are not known before they are read."""
SHORT = 40  # tokens of the shortest answer that is assumed
REPLY = (70, 200)  # tokens of a verdict
SECONDS = (0.7, 3.0)  # a call to an address takes


class CostForecast(NamedTuple):
    """`low` and `high` are of tokens in and out together, dollars and seconds; dollars are None where no price is
    known, seconds if they are unknown."""

    calls: int
    tokens: tuple[int, int]
    dollars: tuple[float, float] | None
    seconds: tuple[float, float] | None
    checks: int = 0
    """Of the calls, those of the judge check; it is made once for a judge and a rubric."""


def forecast_cost(
    request: EvaluateRequest, rows: int, price: Price | None, given: Sequence[ImportedAnswer] = ()
) -> CostForecast:
    """`rows`: how many there will be, or the most. `given`: answers that are here already."""
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
    """Of one row with one answer: the mean, where the answers are known, else the least and the most."""
    if given:
        sizes = [len(prompt.blocks(one.messages, one.reference, {"": one.candidate})[0]) for one in given]
        mean = sum(sizes) / len(sizes)
        return mean, mean
    return ROW[0] + SHORT * CHARACTERS[0], ROW[1] + request.sampling.max_tokens * CHARACTERS[1]
