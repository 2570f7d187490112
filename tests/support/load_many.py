"""python tests/support/load_many.py < LINES: each line is `model FILE` or `adapter FILE`, and is answered by one line.

Loads files as the worker does and lets them speak four tokens, in a process of its own because a bad file may end it.
Lines that begin with `==` are answers; llama.cpp's own words stand between them.
"""

import sys
from pathlib import Path

import llama_cpp as llama

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from backend.core.errors import LabError  # noqa: E402
from backend.inference.sampling import Sampling  # noqa: E402
from backend.llamacpp.context import Context, Task  # noqa: E402
from backend.llamacpp.model import Model  # noqa: E402

GREEDY = Sampling(temperature=0, top_p=0.9, seed=1)
VARIED = Sampling(temperature=0.8, top_p=0.9, repeat_penalty=1.1, seed=1)


def speak(model: Model, lane: Context) -> None:
    """Four tokens, two of them chosen by chance, each written out; none where the context is too short for them."""
    tokens = model.words("Hello,\n wörld 1234!")[: max(0, lane.context - 2)] or [0]
    if len(tokens) + 2 > lane.context:
        return
    for number, sampling in enumerate((GREEDY, VARIED)):
        task = Task(number, list(tokens), len(tokens), model.sampler(sampling))
        lane.start(task)
        for _ in range(2):
            lane.step()
        lane.end(task)
        for token in task.tokens:
            model.piece(token)
            model.ends(token)


def tried(model: Model, adapter: str) -> str:
    try:
        lane = Context(model, model.adapter(adapter) if adapter else None, min(256, model.context_trained), 2, 1)
        speak(model, lane)
        lane.close()
    except (LabError, RuntimeError) as error:
        return f"refused {error}"
    return "loaded"


def answer(what: str, file: str, base: list[Model]) -> str:
    if what == "adapter":
        if not base:
            base.append(Model(str(ROOT / "models" / "tiny" / "tiny_base.gguf")))
        return tried(base[0], file)
    try:
        model = Model(file)
    except LabError as error:
        return f"refused {error}"
    found = tried(model, "")
    llama.llama_model_free(model.handle)
    return found


def main() -> None:
    base: list[Model] = []
    for line in sys.stdin:
        what, file = line.rstrip("\n").split(" ", 1)
        print("==", answer(what, file, base), flush=True)


if __name__ == "__main__":
    main()
