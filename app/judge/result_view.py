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


def headline(found: Result) -> str:
    """The sentence first; an unreliable judge is said before it."""
    said = plain(found.verdict.sentence) if found.spec.way == "score" else plain(picked_sentence(found.picks))
    unreliable = found.check is not None and not found.check.reliable
    return ("### ⚠ Unreliable judge: its scores are noise\n\n" if unreliable else "") + f"## {said}"


def about(found: Result, owner: bool = True) -> str:
    """Who judged, whether that can be believed, and what to know before believing a number."""
    lines = [f"**Judge:** {plain(judge(found))}"]
    if found.check:
        lines.append(f"**Judge check:** {'' if found.check.reliable else '⚠ '}{plain(found.check.sentence)}.")
    elif found.spec.judge.kind in ("endpoint", "variant"):
        lines.append("**Judge check:** ⚠ this judge was never checked: it is unknown whether it is reliable.")
    if found.steadiness:
        count, spread = found.steadiness
        lines.append(f"**Repeatability:** {count} answers judged twice, SD {spread:.2f} points within one.")
    lines += [f"⚠ {plain(note)}" for note in (*(found.by.notes if found.by else ()), *found.verdict.notes)]
    if found.by and found.by.agreed:
        lines += _negotiated(found, owner)
    if found.leaked:
        lines.append(f"⚠ **{found.leaked} of these rows ask what was trained on**: they flatter the fine-tune.")
    length = found.verdict.checks.length
    if length is not None:
        hint = " ⚠ Length alone goes with much of the score." if abs(length) > 0.5 else ""
        lines.append(f"**Length and score:** rank correlation {length:+.2f} over all answers.{hint}")
    halo = found.verdict.checks.halo
    if halo is not None and found.verdict.checks.alike:
        names = plain(" and ".join(found.verdict.checks.alike))
        lines.append(f"**Agreement between criteria:** at most {halo:+.2f} ({names}).")
    return "\n\n".join(lines)


def judge(found: Result) -> str:
    """Who judged, in a line."""
    who, rubric = found.identity, f"rubric {found.rubric.id} ({found.rubric.hash})"
    match who.kind:
        case "rule":
            return f"rule, {who.model or 'no model'}; {rubric}. {RULE}"
        case "given":
            return "elsewhere: the scores came with the answers."
        case "endpoint":
            answered = f", answering as {who.returned}" if who.returned not in ("", who.model) else ""
            return f"{who.model} at {public_name(who.address)}{answered}; {rubric}; identity {who.id}."
    return f"{who.model} on this machine ({who.returned[:16]}); {rubric}; identity {who.id}."


def _negotiated(found: Result, owner: bool) -> list[str]:
    """What the address takes. Its own words on what it refuses may name things of the owner's."""
    agreed = found.by.agreed if found.by else None
    if agreed is None:
        return []
    taken = ", ".join(f"{name}={value}" for name, value in agreed.parameters.items())
    refused = "; ".join(f"{name}: {said[:100]}" if owner else name for name, said in agreed.refused.items())
    more = f" Not taken: {refused}." if refused else ""
    form = "obeys the form" if agreed.honoured else "does not obey the form by itself"
    chances = "tells its probabilities" if agreed.logprobs else "tells no probabilities"
    lines = [f"**Negotiated:** {plain(taken)}; it {form} and {chances}.{plain(more)}"]
    leaving = retirement(found.identity.model, date.today())
    if leaving and leaving not in (found.by.notes if found.by else ()):
        lines.append(f"⚠ {plain(leaving)}")
    return lines


VARIANTS = [
    "variant", "average", "95 % interval", "to its baseline", "status", "rows", "failures", "cut", "without cut",
    "at the ceiling", "good",
]  # fmt: skip


def variants(found: Result) -> list[list[str]]:
    """The lab's table, with what was missing in it: a row for each variant."""
    return [_variant(one) for one in found.verdict.variants]


def _variant(one: Row) -> list[str]:
    failures = ", ".join(f"{count} {status}" for status, count in one.failures.items()) or "0"
    difference = f"{_gap(one.difference)} (to {one.baseline})" if one.difference else one.baseline
    return [
        one.variant,
        _mean(one.primary),
        _range(one.primary),
        difference,
        one.status,
        str(one.primary.n),
        failures,
        str(one.cut),
        _mean(one.uncut),
        f"{one.ceiling.share:.0%}" if one.ceiling.share is not None else "",
        f"{one.good.share:.0%}" if one.good.share is not None else "",
    ]


def _gap(one: Contrast) -> str:
    return f"{one.difference.mean:+.2f}" if one.difference.mean is not None else "–"


CONTRASTS = [
    "comparison", "difference", "95 % interval", "t p", "sign-flip p", "Holm p", "won / tied / lost", "rows", "verdict",
    "rows needed", "failures", "worst / best",
]  # fmt: skip


def contrasts(found: Result) -> list[list[str]]:
    """What was planned to be compared: a row for each."""
    return [_contrast(one) for one in found.verdict.contrasts]


def _contrast(one: Contrast) -> list[str]:
    gap = one.difference
    questions = f" ({gap.clusters} questions)" if gap.clusters < gap.n else ""
    return [
        f"{one.variant} − {one.against}",
        format_interval(gap)[0] if gap.low is not None else format_number(gap.mean) if gap.mean is not None else "–",
        _range(gap),
        _p(gap.p),
        _p(one.flip_p),
        _p(one.holm_p),
        f"{one.wins} / {one.ties} / {one.losses}",
        f"{gap.n}{questions}",
        one.decided,
        f"{one.rows_needed:,}" if one.rows_needed else "",
        f"{one.failures[0]} and {one.failures[1]}" if any(one.failures) else "0",
        f"{one.bounds[0]:+.2f} / {one.bounds[1]:+.2f}" if one.bounds else "",
    ]


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def criteria(found: Result) -> str:
    """Means of each criterion, as a Markdown table; secondary, and said to be. Beside them the means over the judge's
    own probabilities, where it tells those."""
    names = found.rubric.criteria
    torn = {one.variant: _expected(found, one.variant) for one in found.verdict.variants}
    tells = any(value is not None for value in torn.values())
    if (len(names) < 2 and not tells) or not any(one.primary.n for one in found.verdict.variants):
        return ""
    titles = [*(plain(one.title) for one in names), *(["by its probabilities"] if tells else [])]
    head = "| variant | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles)
    rows = []
    for one in found.verdict.variants:
        mean = torn[one.variant]
        cells = [*(_mean(one.criteria[name.name]) for name in names)]
        cells += [f"{mean:.2f}" if mean is not None else "–"] if tells else []
        rows.append(f"| {plain(one.variant)} | " + " | ".join(cells) + " |")
    return f"Means by criterion (secondary, corrected for nothing):\n\n{head}\n" + "\n".join(rows)


def _expected(found: Result, name: str) -> float | None:
    """The mean of the primary number over the judge's probabilities, of answers for which all of them are known."""
    wanted = {one.name for one in found.rubric.criteria}
    got = [one.expected for (_, who), one in found.scores.items() if who == name and set(one.expected) == wanted]
    return fmean(found.rubric.primary_of(one) for one in got) if got else None


def check(found: Result) -> list[list[str]]:
    """The judge check, probe by probe."""
    tried = found.check.tried if found.check else ()
    return [[one.id, one.kind, "passed" if one.passed else "failed", one.why] for one in tried]


def people(found: HumanAgreement) -> str:
    """How a person's ratings go with the judge's."""
    if not found.rated:
        return "No answer has been rated yet."
    lines = [f"**{found.rated} answers rated blind.**"]
    same = found.agreement
    if same and same.exact is not None and same.within_one is not None:
        kappa = f", weighted kappa {same.kappa:.2f}" if same.kappa is not None else ""
        lines.append(
            f"Judge and person, {same.n} answers: the same in {same.exact:.0%}, within a point in "
            f"{same.within_one:.0%}{kappa}."
        )
    if found.rank is not None:
        lines.append(f"Rank correlation with the judge: {found.rank:+.2f}.")
    for name, one in found.means.items():
        lines.append(f"{plain(name)}, corrected by people: **{_mean(one)}** ({_range(one)}; {one.n} rated).")
    if found.missing:
        more = ", ".join(f"{plain(name)} {n}" for name, n in found.missing.items())
        lines.append(f"From {ENOUGH} rated answers of a variant on, its mean is corrected by them. Missing: {more}.")
    return "\n\n".join(lines)


def picked_sentence(picks: Sequence[VoteRecord]) -> str:
    """Who won, in a sentence; order disagreements are ties."""
    decided = [one for one in picks if one.pick.better is not None]
    if not decided:
        return "No winner was picked yet."
    told = []
    for one in decided:
        if one.pick.better == "tie":
            turned = " (it chose by place: turned round, it chose the other)" if one.pick.disagree else ""
            told.append(f"{one.first} and {one.second}: a tie{turned}")
        else:
            won, lost = (one.first, one.second) if one.pick.better == "first" else (one.second, one.first)
            told.append(f"{won} is better than {lost}")
    return "; ".join(told) + "."


def _mean(one: Estimate) -> str:
    return f"{one.mean:.2f}" if one.mean is not None else "–"


def _range(one: Estimate) -> str:
    return "{1} to {2}".format(*format_interval(one)) if one.low is not None else one.why
