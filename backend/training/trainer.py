"""A training run from its data to its adapter, whichever engine has loaded the base."""

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
from backend.training.progress import Progress, before
from backend.training.request import TrainRequest, TrainSettings
from backend.training.status import read_curve

NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "bad_alloc")
NO_SPACE = ("no space left", "quota exceeded", "file too large")
OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit"}


@dataclass(frozen=True)
class TrainableModel:
    """A base with a fresh adapter, ready to be trained."""

    model: Any
    engine: str
    dtype: torch.dtype


@dataclass(frozen=True)
class TrainingData:
    """What is trained on."""

    base: Base
    data: LoadedData
    encoder: Encoder
    train: Tokenised
    held: Tokenised


def run_training(
    request: TrainRequest, journal: Journal, learner: Callable[[Path, TrainSettings], TrainableModel]
) -> None:
    """Train, from the data to the adapter. LabError for what a user can correct; Stopped after a checkpoint."""
    spec, run = request.spec, journal.folder
    torch.set_num_threads(machine.threads())
    ready = prepare(spec, journal)
    begins, newest, said = (0, None, []) if request.trial else checkpoints.newest_of_its_own(run)
    earlier = read_curve(run).seconds
    journal.step(TrainStep(state="loading the base", begins=begins, said=said, steps=request.steps), now=True)
    transformers.set_seed(spec.seed)
    progress = Progress(journal, spec.samples)
    with plainly(run), tracking.tracked(request, journal) as reporting:
        loaded = learner(ready.base.folder, spec)
        trainer = trainer_for(request, ready, loaded, run, reporting, progress, begins)
        for weight in trainer.model.parameters():
            if weight.requires_grad:  # TRL makes a QLoRA's bfloat16, in which small steps are lost
                weight.data = weight.data.float()
        began = time.monotonic()
        if newest and begins >= request.steps:
            take_up(trainer, newest, progress)
        else:
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        seconds = time.monotonic() - began
        if progress.stopping and int(trainer.state.global_step) < request.steps:
            raise Stopped
        if request.trial:
            pace = round(seconds / request.steps, 4)
            journal.result(TrialResult(seconds_per_step=pace, memory=peak(), tokens=progress.tokens))
            return
        save_artifacts.save_artifacts(spec, ready, loaded, trainer, progress, journal, earlier + seconds, peak())


def prepare(spec: TrainSettings, journal: Journal) -> TrainingData:
    """The rows as tokens. LabError when there is nothing to learn, or when a resumed run's data has changed."""
    journal.step(TrainStep(state="reading the data"), now=True)
    pinned = save_artifacts.read_pin(journal.folder)
    rows = spec.data.model_copy(update={"revision": pinned.data_commit or spec.data.revision})
    data = load(rows, print)
    known = estimate.shape_of(spec.base) is not None
    base = base_at(
        spec.base, pinned.base_commit or spec.revision, lambda state: journal.step(TrainStep(state=state), now=True)
    )
    if not known:  # the page could not estimate it
        estimate.refuse(spec, estimate.estimate(spec, machine.memory_free()))
    save_artifacts.same_rows(journal.folder, pinned, data, base)
    encoder = Encoder(base.folder, spec.template)
    journal.step(TrainStep(state="tokenising"), now=True)
    train = checked(tokenised(data.train, encoder, spec), spec, "rows")
    held = tokenised(data.eval_rows, encoder, spec)
    if spec.evaluate_every:
        checked(held, spec, "rows held out")
    return TrainingData(base, data, encoder, train, held)


def take_up(trainer: Any, newest: Path, progress: Progress) -> None:
    """What a run that had learnt everything goes on with: transformers would do one step more."""
    trainer.state = TrainerState.load_from_json(str(newest / checkpoints.STATE))
    best = Path(trainer.state.best_model_checkpoint or "")
    best = best if trainer.args.load_best_model_at_end and best.name else newest
    set_peft_model_state_dict(trainer.model, load_file(best / checkpoints.WEIGHTS))
    progress.tokens = before(trainer.state.log_history)


def trainer_for(
    request: TrainRequest,
    ready: TrainingData,
    loaded: TrainableModel,
    run: Path,
    reporting: list[str],
    progress: Progress,
    begins: int,
) -> Any:
    spec = request.spec
    evaluates = bool(spec.evaluate_every) and not request.trial
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
        train_dataset=dataset(ready.train.rows),
        eval_dataset=dataset(ready.held.rows) if evaluates else None,
        processing_class=save_artifacts.tokenizer(ready.base.folder, ready.encoder),
        callbacks=callbacks,
    )


def dataset(rows: list[Encoded]) -> Dataset:
    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})


def peak() -> int:
    """Bytes, the most that were used: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


@contextmanager
def plainly(run: Path) -> Iterator[None]:
    """Says in a sentence what torch and safetensors say in pages: no memory, no disk."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        said = str(error).lower()
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in said for words in NO_MEMORY):
            raise LabError(
                "Memory ran out. Take fewer rows at a time (and accumulate more), shorter rows, a smaller base, or "
                "qlora; the newest checkpoint is kept."
            ) from error
        if any(words in said for words in NO_SPACE) or shutil.disk_usage(run).free < 1_000_000:
            raise LabError(
                "The disk is full, so the training ended; the last whole checkpoint is kept. Free 1 GB in "
                f"{run.parent.name}/, then resume."
            ) from error
        raise
