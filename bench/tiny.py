"""python -m bench.tiny [--quick] [--base VARIANT] [--lora VARIANT]

Asks the embedded model what its training never saw, greedily and through the app's own worker, and prints how
often the base is right, how often it has the JSON habit, and how often the LoRA has the habit and is right.
It does not say how either does on questions of other kinds: a toy knows only these.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.core.settings import Settings
from backend.inference.sampling import Sampling
from backend.lab import Lab
from models.tiny.curriculum import Question, habit_answer, held_out

FULL, QUICK = 1200, 180
SEED = 2026
AT_ONCE = 16
GREEDY = Sampling(temperature=0.0, max_tokens=64)


@dataclass(frozen=True)
class Answered:
    """A question and the answers of both variants."""

    question: Question
    base: str
    lora: str

    @property
    def exact(self) -> bool:
        """Whether the base gives exactly the right answer."""
        return self.base.strip() == self.question.answer

    @property
    def slipped(self) -> bool:
        """Whether the base answers in the format that only the LoRA was trained on."""
        return habit_answer(self.base) is not None

    @property
    def taught(self) -> bool:
        """Whether the LoRA answers in that format, and right."""
        return habit_answer(self.lora) == self.question.answer


def replies(lab: Lab, variant: str, questions: Sequence[Question]) -> list[str]:
    """Ask all questions, many at the same time."""
    texts = []
    for i in range(0, len(questions), 2 * AT_ONCE):
        several = questions[i : i + 2 * AT_ONCE]
        asked = [lab.reply(variant, [{"role": "user", "content": q.prompt}], GREEDY) for q in several]
        texts += [reply.text() for reply in asked]
    return texts


def ask(questions: Sequence[Question], variants: Sequence[str]) -> list[Answered]:
    """Both variants, in one engine."""
    with Lab(Settings(lab_slots=AT_ONCE, lab_waiting=2 * AT_ONCE, lab_context=512)) as lab:
        base, lora = (replies(lab, variant, questions) for variant in variants)
        return [Answered(*row) for row in zip(questions, base, lora, strict=True)]


def percent(values: Iterable[bool]) -> float | None:
    """The share of true values in percent; None for an empty list."""
    found = list(values)
    return 100 * sum(found) / len(found) if found else None


def cell(value: float | None) -> str:
    """Format a share for the table."""
    return "" if value is None else f"{value:.0f}"


def row(name: str, asked: Sequence[Answered]) -> str:
    """A line of the table: each share for unseen wordings and for unseen combinations."""
    wording, combination = ([a for a in asked if a.question.part == part] for part in ("wording", "combination"))
    shares = [percent(a.exact for a in wording), percent(a.exact for a in combination)]
    shares += [percent(a.slipped for a in asked)]
    shares += [percent(a.taught for a in wording), percent(a.taught for a in combination)]
    cells = map(cell, shares)
    return f"| {name} | {len(asked)} | " + " | ".join(cells) + " |"


def table(asked: Sequence[Answered]) -> None:
    """Print a line per kind of question, and the total."""
    print("| percent of held-out questions | n | base exact: unseen wording | base exact: unseen combination "
          "| base habit | lora habit: unseen wording | lora habit: unseen combination |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|")
    for kind in dict.fromkeys(a.question.kind for a in asked):
        print(row(kind, [a for a in asked if a.question.kind == kind]))
    print(row("all", asked))


def aim(name: str, value: float, bound: float, at_least: bool) -> None:
    """Print the line of an aim."""
    met = value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    print(f"aim {name}: {value:.1f} % ({sign} {bound:.0f} %) {'met' if met else 'missed'}")


def main() -> None:
    """Ask all questions, print the table and the aims."""
    parser = argparse.ArgumentParser(description="Measure the embedded model.")
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    parser.add_argument("--base", default="tiny_base", help="another base, by its id")
    parser.add_argument("--lora", default="tiny_lora", help="another adapter, by its id")
    options = parser.parse_args()
    questions = held_out(QUICK if options.quick else FULL, SEED)
    asked = ask(questions, (options.base, options.lora))
    table(asked)
    unchanged = sum(a.lora.strip() == a.question.answer for a in asked)
    print(f"through the LoRA, right but without the habit: {unchanged} of {len(asked)}")
    aim("base exact", percent(a.exact for a in asked) or 0.0, 90, at_least=True)
    aim("base habit", percent(a.slipped for a in asked) or 0.0, 5, at_least=False)
    aim("lora habit", percent(a.taught for a in asked) or 0.0, 85, at_least=True)


if __name__ == "__main__":
    main()
