"""A finished run on one page, for people: what was made, from what, how, and how it went."""

from backend.core.errors import short
from backend.core.machine import amount
from backend.training.artifacts import Made


def card(made: Made) -> str:
    """Markdown."""
    rows = "\n".join(f"| {title} | {value} |" for title, value in facts(made))
    table = f"# {made.spec.name}\n\n| | |\n|---|---|\n{rows}\n"
    return f"{table}\n## Prompt template\n\n```jinja\n{made.template.strip()}\n```\n"


def facts(made: Made) -> list[tuple[str, str]]:
    """What stands on the card, in order."""
    spec = made.spec
    scale = "alpha / sqrt(rank)" if spec.rslora else "alpha / rank"
    found = [
        ("Base", short(made.base) + _at(made.commit)),
        ("Method", f"{spec.method}, rank {spec.rank}, alpha {spec.alpha} ({scale}), {spec.projections} projections"),
        ("Data", f"{short(spec.data.source)}{_at(made.data_commit)}, sha256 {made.data[:16]}"),
        ("Rows", f"{made.rows:,} trained on, {made.held:,} held out"),
        ("Template", f"{spec.template}, loss on {spec.learn}"),
        ("Optimiser", f"{spec.optimizer}, {spec.learning_rate:g} {spec.schedule}, {spec.warmup_steps} warm-up steps"),
        ("Steps", f"{made.steps:,} of {spec.steps:,}, {spec.samples} rows each; {made.samples:,} rows seen"),
        ("Tokens", f"{made.tokens_trained:,}"),
        ("Loss", _fall(made.loss_first, made.loss_last, " (mean of the last 10 steps)")),
        ("Evaluation loss", _fall(made.eval_first, made.eval_kept)),
        ("Lowest evaluation loss", f"{made.eval_best:.3f}" if made.eval_best is not None else ""),
        ("Adapter of", f"step {made.step:,}"),
        ("Time", f"{made.seconds:,.0f} s"),
        ("Memory", amount(made.memory)),
        ("Machine", made.machine),
        ("Engine", ", ".join([made.engine, *(f"{name} {version}" for name, version in made.versions.items())])),
        ("Seed", str(spec.seed)),
    ]
    return [(title, text) for title, text in found if text]


def _at(commit: str) -> str:
    return f" at {commit[:12]}" if commit else ""


def _fall(first: float | None, last: float | None, how: str = "") -> str:
    return f"{first:.3f} to {last:.3f}{how}" if first is not None and last is not None else ""
