"""What came of an evaluation: the sentence, who judged, the tables. Knows no gradio."""

from collections.abc import Sequence
from datetime import date
from statistics import fmean

from app.markup import plain
from backend.evaluation.contrasts import Contrast
from backend.evaluation.human_ratings import ENOUGH, HumanAgreement
from backend.evaluation.records import VoteRecord
from backend.evaluation.result import Result
from backend.evaluation.sentence import format_interval, format_number
from backend.evaluation.verdict import VariantSummary as Row
from backend.remote.prices import public_name, retirement
from backend.stats.paired import Estimate

RULE = "It measures likeness to the reference, not truth: a right answer in other words gets little."


def headline(result: Result) -> str:
    """The sentence first; an unreliable judge is said before it."""
    said = plain(result.verdict.sentence) if result.spec.way == "score" else plain(picked_sentence(result.picks))
    unreliable = result.check is not None and not result.check.reliable
    return ("### ⚠ Unreliable judge: its scores are noise\n\n" if unreliable else "") + f"## {said}"


def about(result: Result, owner: bool = True) -> str:
    """Who judged, whether that can be believed, and what to know before believing a number."""
    lines = [f"**Judge:** {plain(judge(result))}"]
    if result.check:
        lines.append(f"**Judge check:** {'' if result.check.reliable else '⚠ '}{plain(result.check.sentence)}.")
    elif result.spec.judge.kind in ("endpoint", "variant"):
        lines.append("**Judge check:** ⚠ this judge was never checked: it is unknown whether it is reliable.")
    if result.steadiness:
        count, spread = result.steadiness
        lines.append(f"**Repeatability:** {count} answers judged twice, SD {spread:.2f} points within one.")
    lines += [f"⚠ {plain(note)}" for note in (*(result.by.notes if result.by else ()), *result.verdict.notes)]
    if result.by and result.by.agreed:
        lines += _negotiated(result, owner)
    if result.leaked:
        lines.append(f"⚠ **{result.leaked} of these rows ask what was trained on**: they flatter the fine-tune.")
    length = result.verdict.checks.length
    if length is not None:
        hint = " ⚠ Length alone goes with much of the score." if abs(length) > 0.5 else ""
        lines.append(f"**Length and score:** rank correlation {length:+.2f} over all answers.{hint}")
    halo = result.verdict.checks.halo
    if halo is not None and result.verdict.checks.alike:
        names = plain(" and ".join(result.verdict.checks.alike))
        lines.append(f"**Agreement between criteria:** at most {halo:+.2f} ({names}).")
    return "\n\n".join(lines)


def judge(result: Result) -> str:
    """Who judged, in a line."""
    who, rubric = result.identity, f"rubric {result.rubric.id} ({result.rubric.hash})"
    match who.kind:
        case "rule":
            return f"rule, {who.model or 'no model'}; {rubric}. {RULE}"
        case "given":
            return "elsewhere: the scores came with the answers."
        case "endpoint":
            answered = f", answering as {who.returned}" if who.returned not in ("", who.model) else ""
            return f"{who.model} at {public_name(who.address)}{answered}; {rubric}; identity {who.id}."
    return f"{who.model} on this machine ({who.returned[:16]}); {rubric}; identity {who.id}."


def _negotiated(result: Result, owner: bool) -> list[str]:
    """What the address takes. Its own words on what it refuses may name things of the owner's."""
    agreed = result.by.agreed if result.by else None
    if agreed is None:
        return []
    taken = ", ".join(f"{name}={value}" for name, value in agreed.parameters.items())
    refused = "; ".join(f"{name}: {said[:100]}" if owner else name for name, said in agreed.refused.items())
    more = f" Not taken: {refused}." if refused else ""
    form = "obeys the form" if agreed.honoured else "does not obey the form by itself"
    chances = "tells its probabilities" if agreed.logprobs else "tells no probabilities"
    lines = [f"**Negotiated:** {plain(taken)}; it {form} and {chances}.{plain(more)}"]
    leaving = retirement(result.identity.model, date.today())
    if leaving and leaving not in (result.by.notes if result.by else ()):
        lines.append(f"⚠ {plain(leaving)}")
    return lines


VARIANTS = [
    "variant", "average", "95 % interval", "to its baseline", "status", "rows", "failures", "cut", "without cut",
    "at the ceiling", "good",
]  # fmt: skip


def variants(result: Result) -> list[list[str]]:
    """The lab's table, with what was missing in it: a row for each variant."""
    return [_variant(variant) for variant in result.verdict.variants]


def _variant(row: Row) -> list[str]:
    failures = ", ".join(f"{count} {status}" for status, count in row.failures.items()) or "0"
    difference = f"{_gap(row.difference)} (to {row.baseline})" if row.difference else row.baseline
    return [
        row.variant,
        _mean(row.primary),
        _range(row.primary),
        difference,
        row.status,
        str(row.primary.n),
        failures,
        str(row.cut),
        _mean(row.uncut),
        f"{row.ceiling.share:.0%}" if row.ceiling.share is not None else "",
        f"{row.good.share:.0%}" if row.good.share is not None else "",
    ]


def _gap(contrast: Contrast) -> str:
    return f"{contrast.difference.mean:+.2f}" if contrast.difference.mean is not None else "–"


CONTRASTS = [
    "comparison", "difference", "95 % interval", "t p", "sign-flip p", "Holm p", "won / tied / lost", "rows", "verdict",
    "rows needed", "failures", "worst / best",
]  # fmt: skip


def contrasts(result: Result) -> list[list[str]]:
    """What was planned to be compared: a row for each."""
    return [_contrast(contrast) for contrast in result.verdict.contrasts]


def _contrast(contrast: Contrast) -> list[str]:
    gap = contrast.difference
    questions = f" ({gap.clusters} questions)" if gap.clusters < gap.n else ""
    return [
        f"{contrast.variant} − {contrast.against}",
        format_interval(gap)[0] if gap.low is not None else format_number(gap.mean) if gap.mean is not None else "–",
        _range(gap),
        _p(gap.p),
        _p(contrast.flip_p),
        _p(contrast.holm_p),
        f"{contrast.wins} / {contrast.ties} / {contrast.losses}",
        f"{gap.n}{questions}",
        contrast.decided,
        f"{contrast.rows_needed:,}" if contrast.rows_needed else "",
        f"{contrast.failures[0]} and {contrast.failures[1]}" if any(contrast.failures) else "0",
        f"{contrast.bounds[0]:+.2f} / {contrast.bounds[1]:+.2f}" if contrast.bounds else "",
    ]


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def criteria(result: Result) -> str:
    """Means of each criterion, as a Markdown table; secondary, and said to be. Beside them the means over the judge's
    own probabilities, where it tells those."""
    names = result.rubric.criteria
    torn = {item.variant: _expected(result, item.variant) for item in result.verdict.variants}
    tells = any(value is not None for value in torn.values())
    if (len(names) < 2 and not tells) or not any(item.primary.n for item in result.verdict.variants):
        return ""
    titles = [*(plain(item.title) for item in names), *(["by its probabilities"] if tells else [])]
    head = "| variant | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles)
    rows = []
    for variant in result.verdict.variants:
        mean = torn[variant.variant]
        cells = [*(_mean(variant.criteria[name.name]) for name in names)]
        cells += [f"{mean:.2f}" if mean is not None else "–"] if tells else []
        rows.append(f"| {plain(variant.variant)} | " + " | ".join(cells) + " |")
    return f"Means by criterion (secondary, corrected for nothing):\n\n{head}\n" + "\n".join(rows)


def _expected(result: Result, name: str) -> float | None:
    """The mean of the primary number over the judge's probabilities, of answers for which all of them are known."""
    wanted = {criterion.name for criterion in result.rubric.criteria}
    got = [item.expected for (_, who), item in result.scores.items() if who == name and set(item.expected) == wanted]
    return fmean(result.rubric.primary_of(item) for item in got) if got else None


def check(result: Result) -> list[list[str]]:
    """The judge check, probe by probe."""
    tried = result.check.tried if result.check else ()
    return [[probe.id, probe.kind, "passed" if probe.passed else "failed", probe.why] for probe in tried]


def people(people: HumanAgreement) -> str:
    """How a person's ratings go with the judge's."""
    if not people.rated:
        return "No answer has been rated yet."
    lines = [f"**{people.rated} answers rated blind.**"]
    same = people.agreement
    if same and same.exact is not None and same.within_one is not None:
        kappa = f", weighted kappa {same.kappa:.2f}" if same.kappa is not None else ""
        lines.append(
            f"Judge and person, {same.n} answers: the same in {same.exact:.0%}, within a point in "
            f"{same.within_one:.0%}{kappa}."
        )
    if people.rank is not None:
        lines.append(f"Rank correlation with the judge: {people.rank:+.2f}.")
    for name, item in people.means.items():
        lines.append(f"{plain(name)}, corrected by people: **{_mean(item)}** ({_range(item)}; {item.n} rated).")
    if people.missing:
        more = ", ".join(f"{plain(name)} {n}" for name, n in people.missing.items())
        lines.append(f"From {ENOUGH} rated answers of a variant on, its mean is corrected by them. Missing: {more}.")
    return "\n\n".join(lines)


def picked_sentence(picks: Sequence[VoteRecord]) -> str:
    """Who won, in a sentence; order disagreements are ties."""
    decided = [record for record in picks if record.pick.better is not None]
    if not decided:
        return "No winner was picked yet."
    told = []
    for item in decided:
        if item.pick.better == "tie":
            turned = " (it chose by place: turned round, it chose the other)" if item.pick.disagree else ""
            told.append(f"{item.first} and {item.second}: a tie{turned}")
        else:
            won, lost = (item.first, item.second) if item.pick.better == "first" else (item.second, item.first)
            told.append(f"{won} is better than {lost}")
    return "; ".join(told) + "."


def _mean(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f}" if estimate.mean is not None else "–"


def _range(estimate: Estimate) -> str:
    return "{1} to {2}".format(*format_interval(estimate)) if estimate.low is not None else estimate.why
