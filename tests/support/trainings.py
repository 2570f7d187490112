"""Small trainings of the embedded model, as the lab starts them."""

import json
from pathlib import Path
from typing import Any

from backend.jobs.run import Run
from backend.lab import Lab
from backend.training.presets import presets
from backend.training.request import TrainSettings
from support.session import until

SMALL = {
    "steps": 12, "batch": 4, "max_length": 128, "warmup_steps": 2, "save_every": 4, "evaluate_every": 0,
    "data": {"source": "tiny_habit", "rows": 200, "held_first": 10_000, "held_rows": 8},
}  # fmt: skip
LONG = 240.0  # seconds that a small training may take on a slow machine


def small(name: str = "small", preset: str = "tiny_lora", **changed: Any) -> TrainSettings:
    """A preset with a few steps over a few rows."""
    return TrainSettings.model_validate(presets()[preset].spec.model_dump() | SMALL | {"name": name} | changed)


def trained(lab: Lab, spec: TrainSettings) -> Run:
    """The run when it has ended, however it ended."""
    return ended(lab.training.start(spec))


def ended(run: Run) -> Run:
    until(lambda: not run.live, LONG)
    return run


def reached(run: Run, step: int) -> None:
    """Wait until it has done that step, or has ended."""
    until(lambda: not run.live or step_of(run) >= step, LONG)


def step_of(run: Run) -> int:
    last = run.last("step")
    return int(last.facts.get("step") or 0) if last else 0


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write_rows(path: Path, count: int) -> Path:
    """A file of rows that all differ."""
    rows = (chat(f"What is {n} plus one?", str(n + 1)) for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
