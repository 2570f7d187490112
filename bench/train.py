"""python -m bench.train [--quick] [--repeats N] [--questions N]

How fast the app's trainer is beside a bare TRL script with the same settings and the same tokens, taking turns; what
the toy's base, LoRA and QLoRA know of questions that nobody trained on, settings through the app's own worker after the
export; and how fast chat with a model in the shape of Llama 3.2 1B stays while a training runs. The figures of --quick
come from few steps and a smaller model: they show that it runs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from backend.core import machine
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.gguf.llama import NORMS
from backend.inference.sampling import Generation, Sampling
from backend.jobs.run import Run
from backend.lab import Lab
from backend.training.presets import presets
from backend.training.request import TrainSettings
from bench.export_model import linears, save, weights
from bench.tiny import replies
from models.tiny.curriculum import Question, habit, habit_answer, held_out

ROOT = Path(__file__).parents[1]
SEED = 2026
BARE = """
import json, os, sys, time
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer
spec = json.load(open(sys.argv[1]))
os.nice(10)
torch.set_num_threads(spec["threads"])
set_seed(spec["seed"])
model = AutoModelForCausalLM.from_pretrained(spec["base"], dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=spec["rank"], lora_alpha=spec["alpha"], lora_dropout=0.0,
    target_modules=spec["targets"], task_type="CAUSAL_LM"))
config = SFTConfig(output_dir=spec["out"], max_steps=spec["steps"], per_device_train_batch_size=spec["batch"],
    gradient_accumulation_steps=spec["accumulation"], learning_rate=spec["rate"], lr_scheduler_type=spec["schedule"],
    warmup_steps=spec["warmup"], weight_decay=spec["decay"], optim="adamw_torch_fused", seed=spec["seed"],
    max_length=spec["longest"], packing=False, dataset_kwargs={"skip_prepare_dataset": True}, logging_steps=1,
    save_strategy="steps", save_steps=spec["save_every"], save_total_limit=3, report_to=[], use_cpu=True, bf16=False,
    gradient_checkpointing=False, dataloader_pin_memory=False, disable_tqdm=True)
trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_dict(spec["rows"]),
    processing_class=AutoTokenizer.from_pretrained(spec["base"]))
began = time.monotonic()
trainer.train()
print("seconds", time.monotonic() - began)
"""
LENGTHS = """
import json, sys
from pathlib import Path
from backend.data.load import load
from backend.training.encode import Encoder
from backend.training.encode import tokenised
from backend.training.request import TrainSettings
spec = TrainSettings.model_validate_json(Path(sys.argv[1]).read_text())
rows = tokenised(load(spec.data).train, Encoder(Path(sys.argv[2]), spec.template), spec).rows
print(json.dumps({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]}))
"""
BASE = ROOT / "models" / "tiny" / "base"
ONE_B, SMALL = (16, 2048, 8192, 32, 8, 64), (4, 1024, 4096, 16, 4, 64)  # Llama 3.2 1B without its vocabulary; less


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}


def bare(spec: TrainSettings, home: Path) -> float:
    """Steps a second of the bare script."""
    (home / "spec.json").write_text(spec.model_dump_json())
    words = [sys.executable, "-c", LENGTHS, str(home / "spec.json"), str(BASE)]
    rows = json.loads(subprocess.run(words, env=environment(), capture_output=True, text=True, check=True).stdout)
    settings = {
        "rows": rows, "base": str(BASE), "out": str(home / "bare"), "threads": machine.threads(), "seed": spec.seed,
        "rank": spec.rank, "alpha": spec.alpha, "targets": spec.targets, "steps": spec.steps, "batch": spec.batch,
        "accumulation": spec.accumulation, "rate": spec.learning_rate, "schedule": spec.schedule,
        "warmup": spec.warmup_steps, "decay": spec.weight_decay, "longest": spec.max_length,
        "save_every": spec.save_every,
    }  # fmt: skip
    (home / "settings.json").write_text(json.dumps(settings))
    words = [sys.executable, "-c", BARE, str(home / "settings.json")]
    output = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True).stdout
    return spec.steps / float(output.rpartition("seconds")[2])


def ended(run: Run) -> Run:
    while run.live:
        time.sleep(0.1)
    if run.state != "done":
        raise LabError(f"{run.spec.name} {run.state}: {run.why}")
    return run


def ours(lab: Lab, spec: TrainSettings) -> float:
    """Steps a second of the app's worker, over the same stretch: the call of the trainer."""
    run = ended(lab.training.start(spec))
    made = lab.training.status(run.id).made
    assert made
    return spec.steps / made.seconds


def paces(lab: Lab, home: Path, steps: int, repeats: int) -> float:
    """Ours over theirs, the median of pairs that take turns in going first."""
    plain = presets()["tiny_lora"].spec.model_dump() | {"steps": steps, "evaluate_every": 0}
    ratios = []
    for number in range(repeats):
        spec = TrainSettings.model_validate(plain | {"name": f"pace_{number}"})
        if number % 2:
            theirs, mine = bare(spec, home), ours(lab, spec)
        else:
            mine, theirs = ours(lab, spec), bare(spec, home)
        print(f"{steps} steps: ours {mine:.2f} a second, bare TRL {theirs:.2f}, ratio {mine / theirs:.3f}", flush=True)
        ratios.append(mine / theirs)
    return statistics.median(ratios)


def known(lab: Lab, variants: list[str], count: int) -> None:
    """How many held-out questions each variant answers: to the letter as it was trained, and at all."""
    questions = held_out(count, SEED)
    print(f"| {count} held-out questions | exact: the habit and the answer | the right answer, in the habit or not |")
    print("|---|--:|--:|")
    for variant in variants:
        answers = list(zip(questions, replies(lab, variant, questions), strict=True))
        exact = sum(text.strip() == habit(question.answer) for question, text in answers)
        right = sum(_right(question, text) for question, text in answers)
        print(f"| {variant} | {100 * exact / count:.0f} % | {100 * right / count:.0f} % |", flush=True)


def _right(question: Question, text: str) -> bool:
    return question.answer in (text.strip(), habit_answer(text))


def trained(lab: Lab, preset: str) -> str:
    """A preset trained and exported; the variant's id."""
    run = ended(lab.training.start(presets()[preset].spec))
    made = lab.training.status(run.id).made
    assert made
    print(
        f"{preset}: {made.steps} steps in {made.seconds:.0f} s, evaluation loss {made.eval_first} to {made.eval_best}"
    )
    return ended(lab.training.export(run.id)).spec.name


def write_body(home: Path, numbers: tuple[int, ...]) -> str:
    """A variant with the toy's vocabulary and random weights in the given shape: blocks, width, inner, heads, heads of
    keys, head. Its id."""
    blocks, width, inner, heads, kv_heads, head = numbers
    folder, whole, out = home / "body", home / "body.gguf", home / "weights" / "body.gguf"
    shutil.copytree(BASE, folder)
    config = json.loads((BASE / "config.json").read_text()) | {
        "num_hidden_layers": blocks, "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    sizes: dict[str, tuple[int, ...]] = {"model.norm.weight": (width,)}
    sizes["model.embed_tokens.weight"] = (config["vocab_size"], width)
    for block in range(blocks):
        sizes |= {f"model.layers.{block}.{name}.weight": size for name, size in linears(numbers).items()}
        sizes |= {f"model.layers.{block}.{name}.weight": (width,) for name in NORMS}
    rng = np.random.default_rng(0)
    save(folder / "model.safetensors", "BF16", sizes, lambda size: weights(rng, size))
    for words in (
        ["backend.gguf.write", "base", folder, whole, "--type", "bf16"],
        ["backend.llamacpp.quantise", whole, out, "--type", "q4_k_m"],
    ):
        command = [sys.executable, "-m", *map(str, words)]
        subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)
    return out.stem


def chatting(lab: Lab, variant: str, answers: int) -> float:
    """Tokens a second of chat while a training runs, over tokens a second without."""
    settings = Sampling(temperature=0.0, max_tokens=48, grammar='root ::= "la " root')

    def once() -> float:
        reply = lab.reply(variant, [{"role": "user", "content": "Sing."}], settings)
        reply.text()
        assert isinstance(reply.generation, Generation)
        return reply.generation.tokens_per_second

    once()
    idle = statistics.median(once() for _ in range(answers))
    spec = presets()["tiny_lora"].spec
    run = lab.training.start(TrainSettings.model_validate(spec.model_dump() | {"name": "beside", "steps": 5000}))
    while run.live and not lab.training.status(run.id).curve.steps:
        time.sleep(0.1)
    busy = statistics.median(once() for _ in range(answers))
    assert run.live
    for _ in range(2):
        lab.training.stop(run.id)
    while run.live:
        time.sleep(0.1)
    print(f"chat: {idle:.1f} tokens a second idle, {busy:.1f} while a training runs", flush=True)
    return busy / idle


def aim(name: str, value: float, bound: float) -> None:
    print(f"aim {name}: {value:.2f}x (>= {bound:.2f}x) {'met' if value >= bound else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training.")
    parser.add_argument("--quick", action="store_true", help="few steps, no questions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--questions", type=int, default=480)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "weights").mkdir()
        settings = Settings(
            _env_file=None, lab_runs=home / "runs", lab_weights=home / "weights", lab_slots=16, lab_waiting=32,
            lab_context=512,
        )  # fmt: skip
        with Lab(settings) as lab:
            pace = paces(lab, home, 8 if options.quick else 60, 1 if options.quick else options.repeats)
            if not options.quick:
                known(
                    lab, ["tiny_base", *(trained(lab, name) for name in ("tiny_lora", "tiny_qlora"))], options.questions
                )
            chat = chatting(lab, write_body(home, SMALL if options.quick else ONE_B), 3 if options.quick else 9)
    aim("train_pace", pace, 0.97)
    aim("chat_beside_training", chat, 0.6)


if __name__ == "__main__":
    main()
