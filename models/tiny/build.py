"""python -m models.tiny.build base|lora|all [--quick] [--out DIR]

Makes the embedded model again: the base from nothing, the LoRA over it, and the GGUF of each. `--quick` takes a
few steps of each, which shows that everything fits together and teaches nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "PEFT Lab tiny"
QUANTISED = "q4_k_m"  # README.md has what it costs beside q8_0


def command(module: str, *words: str | Path) -> None:
    """Run a command of the lab. It is asked for and not imported: nothing in `models` imports the rest.

    Idle threads must sleep: with OpenMP's spinning ones a second busy process makes training many times slower.
    """
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, check=True, env=environment)


def make_base(out: Path, *quick: str) -> None:
    """`base/` and `tiny_base.gguf`."""
    folder = out / "base"
    command("models.tiny.base", folder, *quick)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.gguf"
        command("backend.gguf.write", "base", folder, whole, "--type", "bf16", "--name", NAME)
        command("backend.llamacpp.quantise", whole, out / "tiny_base.gguf", "--type", QUANTISED)


def make_lora(out: Path, *quick: str) -> None:
    """`tiny_lora.gguf`, over `base/`."""
    folder = out / "base"
    with tempfile.TemporaryDirectory() as scratch:
        command("models.tiny.lora", folder, scratch, *quick)
        command(
            "backend.gguf.write", "adapter", scratch, out / "tiny_lora.gguf",
            "--base", folder, "--base-name", NAME, "--name", "PEFT Lab tiny, answers as JSON",
        )  # fmt: skip


def main() -> None:
    """Parse and build."""
    parser = argparse.ArgumentParser(description="Make the embedded model again.")
    parser.add_argument("what", choices=("base", "lora", "all"))
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    parser.add_argument("--out", type=Path, default=HERE, help="where to put it; this folder by default")
    options = parser.parse_args()
    out, quick = options.out.resolve(), ["--quick"] if options.quick else []
    if options.what in ("base", "all"):
        make_base(out, *quick)
    if options.what in ("lora", "all"):
        make_lora(out, *quick)


if __name__ == "__main__":
    main()
