"""The verdict of an evaluation: its sentence, its judge, its tables. No gradio."""

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

RULE = "It measures similarity to the reference: a correct answer in other words gets a low score."


def headline(result: Result) -> str:
    """The verdict in a sentence, after a warning if the judge is unreliable."""
    sentence = plain(result.verdict.sentence) if result.spec.way == "score" else plain(picked_sentence(result.picks))
    unreliable = result.check is not None and not result.check.reliable
    return ("### ⚠ Unreliable judge: do not trust its scores\n\n" if unreliable else "") + f"## {sentence}"


def about(result: Result, owner: bool = True) -> str:
    """Facts about the judge, its reliability, and warnings."""
    lines = [f"**Judge:** {plain(judge(result))}"]
    if result.check:
        lines.append(f"**Judge check:** {'' if result.check.reliable else '⚠ '}{plain(result.check.sentence)}.")
    elif result.spec.judge.kind in ("endpoint", "variant"):
        lines.append("**Judge check:** ⚠ this judge was not checked, so its reliability is unknown.")
    if result.steadiness:
        count, spread = result.steadiness
        lines.append(f"**Repeatability:** {count} answers judged twice, standard deviation {spread:.2f} points.")
    lines += [f"⚠ {plain(note)}" for note in (*(result.by.notes if result.by else ()), *result.verdict.notes)]
    if result.by and result.by.agreed:
        lines += _negotiated(result, owner)
    if result.leaked:
        lines.append(f"⚠ **{result.leaked} of these rows are in the training data**, which favours the fine-tune.")
    length = result.verdict.checks.length
    if length is not None:
        hint = " ⚠ Much of the score can be explained by length." if abs(length) > 0.5 else ""
        lines.append(f"**Length and score:** rank correlation {length:+.2f} over all answers.{hint}")
    halo = result.verdict.checks.halo
    if halo is not None and result.verdict.checks.alike:
        names = plain(" and ".join(result.verdict.checks.alike))
        lines.append(f"**Agreement between criteria:** at most {halo:+.2f} ({names}).")
    return "\n\n".join(lines)


def judge(result: Result) -> str:
    """The judge, in a line."""
    who, rubric = result.identity, f"rubric {result.rubric.id} ({result.rubric.hash})"
    match who.kind:
        case "rule":
            return f"rule, {who.model or 'no model'}; {rubric}. {RULE}"
        case "given":
            return "unknown: the scores were imported with the answers."
        case "endpoint":
            answered = f", answering as {who.returned}" if who.returned not in ("", who.model) else ""
            return f"{who.model} at {public_name(who.address)}{answered}; {rubric}; identity {who.id}."
    return f"{who.model} on this machine ({who.returned[:16]}); {rubric}; identity {who.id}."


def _negotiated(result: Result, owner: bool) -> list[str]:
    """Parameters that the address accepts. Its error messages may be private, so only the owner sees them."""
    agreed = result.by.agreed if result.by else None
    if agreed is None:
        return []
    accepted = ", ".join(f"{name}={value}" for name, value in agreed.parameters.items())
    refused = "; ".join(f"{name}: {message[:100]}" if owner else name for name, message in agreed.refused.items())
    more = f" Refused: {refused}." if refused else ""
    schema = "follows the JSON schema" if agreed.honoured else "does not follow the JSON schema"
    logprobs = "returns log probabilities" if agreed.logprobs else "returns no log probabilities"
    lines = [f"**Parameters:** {plain(accepted)}; it {schema} and {logprobs}.{plain(more)}"]
    retires = retirement(result.identity.model, date.today())
    if retires and retires not in (result.by.notes if result.by else ()):
        lines.append(f"⚠ {plain(retires)}")
    return lines


VARIANTS = [
    "variant", "average", "95 % interval", "to its baseline", "status", "rows", "failures", "cut", "without cut",
    "at the ceiling", "good",
]  # fmt: skip


def variants(result: Result) -> list[list[str]]:
    """A row per variant; headings are VARIANTS."""
    return [_variant(variant) for variant in result.verdict.variants]


def _variant(row: Row) -> list[str]:
    failures = ", ".join(f"{count} {status}" for status, count in row.failures.items()) or "0"
    difference = f"{_difference(row.difference)} (to {row.baseline})" if row.difference else row.baseline
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


def _difference(contrast: Contrast) -> str:
    return f"{contrast.difference.mean:+.2f}" if contrast.difference.mean is not None else "–"


CONTRASTS = [
    "comparison", "difference", "95 % interval", "t p", "sign-flip p", "Holm p", "won / tied / lost", "rows", "verdict",
    "rows needed", "failures", "worst / best",
]  # fmt: skip


def contrasts(result: Result) -> list[list[str]]:
    """A row per planned comparison; headings are CONTRASTS."""
    return [_contrast(contrast) for contrast in result.verdict.contrasts]


def _contrast(contrast: Contrast) -> list[str]:
    difference = contrast.difference
    questions = f" ({difference.clusters} questions)" if difference.clusters < difference.n else ""
    return [
        f"{contrast.variant} − {contrast.against}",
        format_interval(difference)[0]
        if difference.low is not None
        else format_number(difference.mean)
        if difference.mean is not None
        else "–",
        _range(difference),
        _p(difference.p),
        _p(contrast.flip_p),
        _p(contrast.holm_p),
        f"{contrast.wins} / {contrast.ties} / {contrast.losses}",
        f"{difference.n}{questions}",
        contrast.decided,
        f"{contrast.rows_needed:,}" if contrast.rows_needed else "",
        f"{contrast.failures[0]} and {contrast.failures[1]}" if any(contrast.failures) else "0",
        f"{contrast.bounds[0]:+.2f} / {contrast.bounds[1]:+.2f}" if contrast.bounds else "",
    ]


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def criteria(result: Result) -> str:
    """A Markdown table of the mean of each criterion, which is a secondary result.

    If the judge returns log probabilities, a column has the means over them.
    """
    names = result.rubric.criteria
    expected_means = {item.variant: _expected(result, item.variant) for item in result.verdict.variants}
    has_expected = any(value is not None for value in expected_means.values())
    if (len(names) < 2 and not has_expected) or not any(item.primary.n for item in result.verdict.variants):
        return ""
    titles = [*(plain(item.title) for item in names), *(["expected score"] if has_expected else [])]
    head = "| variant | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles)
    rows = []
    for variant in result.verdict.variants:
        mean = expected_means[variant.variant]
        cells = [*(_mean(variant.criteria[name.name]) for name in names)]
        cells += [f"{mean:.2f}" if mean is not None else "–"] if has_expected else []
        rows.append(f"| {plain(variant.variant)} | " + " | ".join(cells) + " |")
    return f"Means by criterion (secondary, without correction for multiple comparisons):\n\n{head}\n" + "\n".join(rows)


def _expected(result: Result, name: str) -> float | None:
    """The mean expected score (over the judge's log probabilities) of the answers for which it is known."""
    names = {criterion.name for criterion in result.rubric.criteria}
    expected = [
        item.expected for (_, variant), item in result.scores.items() if variant == name and set(item.expected) == names
    ]
    return fmean(result.rubric.primary_of(item) for item in expected) if expected else None


def check(result: Result) -> list[list[str]]:
    """A row per probe of the judge check."""
    probes = result.check.tried if result.check else ()
    return [[probe.id, probe.kind, "passed" if probe.passed else "failed", probe.why] for probe in probes]


def human_agreement(people: HumanAgreement) -> str:
    """The agreement of human ratings with the judge."""
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
        lines.append(f"{plain(name)}, corrected by human ratings: **{_mean(item)}** ({_range(item)}; {item.n} rated).")
    if people.missing:
        more = ", ".join(f"{plain(name)} {n}" for name, n in people.missing.items())
        lines.append(f"The mean of a variant is corrected when {ENOUGH} of its answers are rated. Missing: {more}.")
    return "\n\n".join(lines)


def picked_sentence(picks: Sequence[VoteRecord]) -> str:
    """The winners, in a sentence. A pair whose winner changes with the order is a tie."""
    decided = [record for record in picks if record.pick.better is not None]
    if not decided:
        return "No winner was picked yet."
    parts = []
    for item in decided:
        if item.pick.better == "tie":
            note = " (the judge chose another one in the other order)" if item.pick.disagree else ""
            parts.append(f"{item.first} and {item.second}: a tie{note}")
        else:
            won, lost = (item.first, item.second) if item.pick.better == "first" else (item.second, item.first)
            parts.append(f"{won} is better than {lost}")
    return "; ".join(parts) + "."


def _mean(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f}" if estimate.mean is not None else "–"


def _range(estimate: Estimate) -> str:
    return "{1} to {2}".format(*format_interval(estimate)) if estimate.low is not None else estimate.why
