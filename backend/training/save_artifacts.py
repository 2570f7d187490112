"""Writes the adapter folder of a training: adapter, tokenizer, record, model card, and logits to check an export."""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedTokenizerFast

from backend.core import machine
from backend.core.errors import LabError
from backend.core.files import read_whole, sync
from backend.data.dataset import DatasetSpec
from backend.data.rows import LoadedData
from backend.gguf.llama import LINEARS, gguf_name
from backend.gguf.vocabulary import text_of
from backend.jobs.events import TrainResult, TrainStep
from backend.jobs.journal import Journal
from backend.training import artifacts
from backend.training.artifacts import TrainingRecord
from backend.training.base_model import Base
from backend.training.encode import Encoder
from backend.training.progress import Progress
from backend.training.request import TrainSettings
from backend.training.status import read_curve
from models.variant import sixteen_bit

DATA = "data.json"
MAX_LOGITS = 8_000_000  # saved to check an export: positions x vocabulary
MAX_POSITIONS = 256
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")
PREFIX = "base_model.model."
NO_IMPORTANCE = (
    "There is no importance matrix: the layers of this engine do not show their inputs. Exports are quantised without "
    "one. To get one, train with the engine transformers."
)


class DataPin(BaseModel):
    """data.json: the rows and the base that a run started with. Empty before the first start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str = ""
    data_commit: str = ""
    base_commit: str = ""


def read_pin(run: Path) -> DataPin:
    try:
        return DataPin.model_validate_json(read_whole(run / DATA))
    except (OSError, ValueError):
        return DataPin()


def pin_data(run: Path, pin: DataPin, data: LoadedData, base: Base) -> None:
    """Write data.json at the first start. LabError if a resumed run would continue with other rows."""
    if pin.sha256 and pin.sha256 != data.sha256:
        raise LabError(
            "The dataset has changed since this run was started, so the run cannot be resumed. Restore the old file, "
            "or start a new run."
        )
    if not pin.sha256:
        part = (run / DATA).with_suffix(".part")
        new = DataPin(sha256=data.sha256, data_commit=data.commit, base_commit=base.commit)
        part.write_text(new.model_dump_json())
        sync(part)
        part.replace(run / DATA)


def tokenizer(folder: Path, encoder: Encoder) -> Any:
    """The tokenizer of the base, with the chat template of the training."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = {role: text_of(config.get(role)) for role in ("bos_token", "eos_token", "pad_token")}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        clean_up_tokenization_spaces=False,
        **{role: text for role, text in names.items() if text},
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = encoder.source
    return tokenizer


def save_artifacts(
    spec: TrainSettings,
    inputs: Any,
    loaded: Any,
    trainer: Any,
    progress: Progress,
    journal: Journal,
    seconds: float,
    memory: int,
) -> None:
    """Write the adapter folder, complete or not at all: it is renamed to its final name at the end."""
    journal.step(TrainStep(state="saving the adapter"), now=True)
    part = journal.folder / f"{artifacts.FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    model = trainer.model
    model.eval()
    model.save_pretrained(part)
    name_base(part / "adapter_config.json", sixteen_bit(inputs.base.name))
    tokenizer(inputs.base.folder, inputs.encoder).save_pretrained(part)
    (part / artifacts.CARD).unlink(missing_ok=True)  # PEFT writes an empty form
    record = _record(spec, inputs, loaded, trainer, progress, seconds, memory)
    (part / artifacts.MADE).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    (part / artifacts.CARD).write_text(artifacts.card(record), encoding="utf-8")
    rows = sorted([*inputs.held.rows, *inputs.train.rows[:200]], key=lambda row: len(row.ids))
    np.savez(part / artifacts.REFERENCE, **reference(model, rows[-1].ids[:MAX_POSITIONS]))
    if spec.importance:
        journal.step(TrainStep(state="measuring importance"), now=True)
        matrix: dict[str, Any] = importance(model, [row.ids for row in inputs.train.rows[:64]])
        if matrix:
            np.savez(part / artifacts.IMPORTANCE, **matrix)
        else:
            warn_of_no_importance(journal)
    for path in part.iterdir():
        sync(path)
    shutil.rmtree(
        journal.folder / artifacts.FOLDER, ignore_errors=True
    )  # left by a run that was killed before it ended
    os.rename(part, journal.folder / artifacts.FOLDER)
    sync(journal.folder)
    facts = record.model_dump(include={"step", "loss_first", "loss_last", "eval_first", "eval_best", "seconds"})
    journal.result(TrainResult(**facts, memory=memory))


def warn_of_no_importance(journal: Journal) -> None:
    """Add a warning to those that the page shows for this run."""
    said = [*read_curve(journal.folder).facts.get("said", []), NO_IMPORTANCE]
    journal.step(TrainStep(state="saving the adapter", said=said), now=True)


def name_base(path: Path, base: str) -> None:
    """Write the name of the base into adapter_config.json, where PEFT writes its local folder."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"base_model_name_or_path": base}, indent=1), encoding="utf-8")


def reference(model: Any, ids: list[int]) -> dict[str, Any]:
    """Logits of the trained model for one row of token ids, to compare an export with (see artifacts.py)."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0].float().cpu().numpy()
    first = max(0, len(ids) - max(1, MAX_LOGITS // logits.shape[1]))
    return {
        "tokens": np.array(ids, np.int32),
        "logits": logits[first:].astype(np.float16),
        "first": np.array(first),
    }


def recorded_settings(spec: TrainSettings, data: DatasetSpec) -> TrainSettings:
    """The settings as they were used: with the rows that were chosen, and no evaluations without an eval split."""
    never = {} if data.held_rows else {"evaluate_every": 0, "keep_best": False, "patience": 0}
    return spec.model_copy(update={"data": data, **never})


def _record(
    spec: TrainSettings, inputs: Any, loaded: Any, trainer: Any, progress: Progress, seconds: float, memory: int
) -> TrainingRecord:
    best = trainer.state.best_model_checkpoint if spec.keep_best else None
    step = int(best.rpartition("-")[2]) if best else int(trainer.state.global_step)
    base_16bit = sixteen_bit(inputs.base.name)
    losses, eval_losses = (
        [loss for _, loss in _history(trainer, "loss")],
        [loss for _, loss in _history(trainer, "eval_loss")],
    )
    return TrainingRecord(
        spec=recorded_settings(spec, inputs.data.spec),
        base=base_16bit,
        folder=str(inputs.base.folder) if not inputs.base.commit and base_16bit == inputs.base.name else "",
        commit=inputs.base.commit,
        template=inputs.encoder.source,
        data=inputs.data.sha256,
        data_commit=inputs.data.commit,
        rows=len(inputs.train.sources),
        held=len(inputs.held.sources),
        tokens_trained=progress.tokens,
        step=step,
        steps=int(trainer.state.global_step),
        samples=int(trainer.state.global_step) * spec.samples,
        loss_first=losses[0] if losses else None,
        loss_last=float(np.mean(losses[-10:])) if losses else None,
        eval_first=eval_losses[0] if eval_losses else None,
        eval_best=min(eval_losses) if eval_losses else None,
        eval_kept=dict(_history(trainer, "eval_loss")).get(step),
        seconds=round(seconds, 1),
        memory=memory,
        engine=loaded.engine,
        machine=torch.cuda.get_device_name() if torch.cuda.is_available() else machine.processor(),
        versions={name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
    )


def _history(trainer: Any, name: str) -> list[tuple[int, float]]:
    """(step, value) of the trainer's log. A resumed run has the entries before the stop as well."""
    return [(int(entry["step"]), float(entry[name])) for entry in trainer.state.log_history if name in entry]


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def importance(model: Any, rows: Sequence[list[int]]) -> dict[str, "np.ndarray[Any, Any]"]:
    """The importance matrix: GGUF weight name -> mean square of each input, [inputs] float32."""
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def record_inputs(name: str) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            values = inputs[0].detach().float().flatten(0, -2)
            sums[name] = sums.get(name, torch.zeros(values.shape[1], device=values.device)) + values.square().sum(0)
            counts[name] = counts.get(name, 0) + values.shape[0]

        return hook

    hooks = [
        module.register_forward_pre_hook(record_inputs(f"{importance[0]}.weight"))
        for name, module in model.named_modules()
        if (importance := gguf_name(name.removeprefix(PREFIX))) and importance[1] in LINEARS.values()
    ]
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            for ids in rows:
                model(input_ids=torch.tensor([ids], device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / counts[name]).cpu().numpy() for name, total in sums.items()}
