"""A training run, from the dataset to the saved adapter. The caller loads the base, with Transformers or Unsloth."""

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerState
from trl import SFTConfig, SFTTrainer

from backend.core import machine
from backend.core.errors import LabError
from backend.data.load import load
from backend.data.rows import LoadedData
from backend.jobs.events import TrainStep, TrialResult
from backend.jobs.journal import Journal, Stopped
from backend.training import checkpoints, estimate, save_artifacts, tracking
from backend.training.base_model import Base, base_at
from backend.training.encode import Encoded, Encoder, Tokenised, checked, tokenised
from backend.training.progress import Progress
from backend.training.request import TrainRequest, TrainSettings
from backend.training.status import read_curve

OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "bad_alloc")
DISK_FULL = ("no space left", "quota exceeded", "file too large")
OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit"}


@dataclass(frozen=True)
class TrainableModel:
    """A base with a new adapter. `engine` is transformers or unsloth."""

    model: Any
    engine: str
    dtype: torch.dtype


@dataclass(frozen=True)
class TrainingData:
    """The encoded dataset of a training, and what it was made from. `held` is the eval split."""

    base: Base
    data: LoadedData
    encoder: Encoder
    train: Tokenised
    held: Tokenised


def run_training(
    request: TrainRequest, journal: Journal, load_model: Callable[[Path, TrainSettings], TrainableModel]
) -> None:
    """Train, and save the adapter. LabError for what the user can correct; Stopped if it was stopped and saved."""
    spec, run = request.spec, journal.folder
    torch.set_num_threads(machine.threads())
    inputs = prepare(spec, journal)
    begins, newest, warnings = (0, None, []) if request.trial else checkpoints.newest_and_warnings(run)
    earlier = read_curve(run).seconds
    warnings = [*warnings, *said_of_data(spec, inputs)]
    for sentence in warnings:
        print(sentence)
    journal.step(TrainStep(state="loading the base", begins=begins, said=warnings, steps=request.steps), now=True)
    transformers.set_seed(spec.seed)
    progress = Progress(journal, spec.samples)
    with readable_errors(run), tracking.tracked(request, journal) as reporting:
        loaded = load_model(inputs.base.folder, spec)
        trainer = trainer_for(request, inputs, loaded, run, reporting, progress, begins)
        for weight in trainer.model.parameters():
            if weight.requires_grad:  # TRL makes QLoRA adapters bfloat16, which loses small updates
                weight.data = weight.data.float()
        start = time.monotonic()
        if newest and begins >= request.steps:
            load_finished(trainer, newest, progress)
        else:
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        seconds = time.monotonic() - start
        if progress.stopping and int(trainer.state.global_step) < request.steps:
            raise Stopped
        if request.trial:
            step_time = round(seconds / request.steps, 4)
            journal.result(TrialResult(seconds_per_step=step_time, memory=peak(), tokens=progress.tokens))
            return
        save_artifacts.save_artifacts(spec, inputs, loaded, trainer, progress, journal, earlier + seconds, peak())


def prepare(spec: TrainSettings, journal: Journal) -> TrainingData:
    """Read and encode the dataset. LabError if no row can be trained on, or the data of a resumed run has changed."""
    journal.step(TrainStep(state="reading the data"), now=True)
    pinned = save_artifacts.read_pin(journal.folder)
    rows = spec.data.model_copy(update={"revision": pinned.data_commit or spec.data.revision})
    data = load(rows, print)
    estimated = estimate.shape_of(spec.base) is not None
    base = base_at(
        spec.base, pinned.base_commit or spec.revision, lambda state: journal.step(TrainStep(state=state), now=True)
    )
    if not estimated:  # the page could not estimate it before the download
        estimate.refuse(spec, estimate.estimate(spec, machine.memory_free()))
    save_artifacts.pin_data(journal.folder, pinned, data, base)
    encoder = Encoder(base.folder, spec.template)
    journal.step(TrainStep(state="tokenising"), now=True)
    train = checked(tokenised(data.train, encoder, spec), spec, "rows")
    held = tokenised(data.eval_rows, encoder, spec)
    if spec.evaluate_every and data.spec.held_rows:
        checked(held, spec, "rows of the eval split")
    return TrainingData(base, data, encoder, train, held)


def said_of_data(spec: TrainSettings, inputs: TrainingData) -> list[str]:
    """Sentences on rows that are dropped or rewritten, and on an evaluation loss that cannot be measured."""
    said = list(inputs.train.notes)
    dropped = [*inputs.data.dropped, *inputs.train.dropped, *inputs.held.dropped]
    if dropped:
        said.insert(0, f"{len(dropped):,} rows were dropped. The first: line {dropped[0].line:,}, {dropped[0].why}.")
    if spec.evaluate_every and not inputs.held.rows:
        last = ", and the last adapter is kept instead of the best" if spec.keep_best else ""
        said.append(f"There is no eval split (fewer than ten rows), so the evaluation loss is not measured{last}.")
    return said


def load_finished(trainer: Any, newest: Path, progress: Progress) -> None:
    """Load the last checkpoint of a run that has done all its steps. `trainer.train` would do one step more."""
    trainer.state = TrainerState.load_from_json(str(newest / checkpoints.STATE))
    best = Path(trainer.state.best_model_checkpoint or "")
    best = best if trainer.args.load_best_model_at_end and best.name else newest
    set_peft_model_state_dict(trainer.model, load_file(best / checkpoints.WEIGHTS))
    progress.count_from(trainer.state)


def trainer_for(
    request: TrainRequest,
    inputs: TrainingData,
    loaded: TrainableModel,
    run: Path,
    reporting: list[str],
    progress: Progress,
    begins: int,
) -> Any:
    spec = request.spec
    evaluates = bool(spec.evaluate_every) and not request.trial and bool(inputs.held.rows)
    gpu = torch.cuda.is_available()
    settings = SFTConfig(
        output_dir=str(run / checkpoints.FOLDER),
        max_steps=request.steps,
        per_device_train_batch_size=spec.batch,
        per_device_eval_batch_size=spec.batch,
        gradient_accumulation_steps=spec.accumulation,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=spec.schedule if spec.schedule != "constant" else "constant_with_warmup",
        warmup_steps=spec.warmup_steps,
        weight_decay=spec.weight_decay,
        optim=OPTIMIZERS[spec.optimizer],
        seed=spec.seed,
        max_length=spec.max_length,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="no" if request.trial else "steps",
        save_steps=spec.save_every,
        save_total_limit=3,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=spec.evaluate_every or None,
        eval_on_start=evaluates and not begins,
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=evaluates and spec.keep_best,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=reporting,
        run_name=spec.name,
        use_cpu=not gpu,
        bf16=loaded.dtype == torch.bfloat16,
        fp16=loaded.dtype == torch.float16,
        gradient_checkpointing=gpu,
        dataloader_pin_memory=gpu,
        disable_tqdm=True,
    )
    callbacks: list[Any] = [progress]
    if evaluates and spec.patience:
        callbacks.append(EarlyStoppingCallback(spec.patience))
    return SFTTrainer(
        model=loaded.model,
        args=settings,
        train_dataset=dataset(inputs.train.rows),
        eval_dataset=dataset(inputs.held.rows) if evaluates else None,
        processing_class=save_artifacts.tokenizer(inputs.base.folder, inputs.encoder),
        callbacks=callbacks,
    )


def dataset(rows: list[Encoded]) -> Dataset:
    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})


def peak() -> int:
    """Peak memory in bytes: of the GPU if there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


@contextmanager
def readable_errors(run: Path) -> Iterator[None]:
    """Turn errors of full memory and full disks, which torch reports in many ways, into LabErrors."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        message = str(error).lower()
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in message for words in OUT_OF_MEMORY):
            raise LabError(
                "There was not enough memory. Lower the batch size (and raise gradient accumulation) or the maximum "
                "length, choose a smaller base, or qlora. The newest checkpoint is kept."
            ) from error
        if any(words in message for words in DISK_FULL) or shutil.disk_usage(run).free < 1_000_000:
            raise LabError(
                "The disk is full, so the training was ended. The newest complete checkpoint is kept. Free 1 GB in "
                f"{run.parent.name}/, then resume."
            ) from error
        raise
