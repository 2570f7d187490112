"""python -m examples.train_and_export NAME [STEPS]: train a LoRA, export it to GGUF, ask the new variant."""

import sys
import time

from backend.core.settings import Settings
from backend.jobs.run import Run
from backend.lab import Lab
from backend.training.presets import presets
from examples import chat


def done(run: Run) -> Run:
    while run.live:
        time.sleep(0.5)
    assert run.state == "done", run.why
    return run


def main(name: str, steps: str = "120") -> None:
    with Lab(Settings()) as lab:
        settings = presets()["tiny_lora"].spec.model_copy(update={"name": name, "steps": int(steps)})
        run = done(lab.training.start(settings))
        variant = done(lab.training.export(run.id)).spec.name
    chat.main("What is the capital of France?", variant)


if __name__ == "__main__":
    main(*sys.argv[1:])
