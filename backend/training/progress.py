"""A callback of the trainer: writes events, saves at a stop, and ends a training whose loss has diverged."""

import math
import signal
import statistics
import time
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from backend.core.errors import LabError
from backend.jobs.events import TrainStep
from backend.jobs.journal import Journal

RECENT = 20  # steps for the median of times and losses
MIN_GRACE = 60.0  # seconds that the worker gets at least to save when it is stopped
# The training ends if three losses in a row are above SPIKE_FACTOR x the median of the recent losses + SPIKE_RISE.
SPIKE_FACTOR = 3.0
SPIKE_RISE = 2.0


class Progress(TrainerCallback):  # type: ignore[misc]
    """Writes the steps into the journal of the run. At SIGTERM it saves a checkpoint and ends the training."""

    def __init__(self, journal: Journal, samples: int) -> None:
        self.journal, self.samples = journal, samples
        self.stopping = False
        self.tokens = 0
        self.memory = 0
        self._older_tokens = 0
        self.losses: list[tuple[int, float]] = []
        self._points: list[list[float]] = []
        self._times: deque[float] = deque(maxlen=RECENT)
        self._speeds: deque[float] = deque(maxlen=RECENT)
        self._step_start = self._step_end = self._save_time = self._evaluation_time = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """From now on a SIGTERM waits for the end of the step, and saves."""
        if signal.signal(signal.SIGTERM, self._stop) == signal.SIG_IGN:
            self.stopping = True  # SIGTERM came during loading, and a library ignored it
        self.count_from(state)
        self._step_start = self._step_end = time.monotonic()

    def count_from(self, state: TrainerState) -> None:
        """Continue with the tokens of a checkpoint: those that were trained on, without padding.

        The count is that of Transformers, because Unsloth replaces the loss of TRL, which has another one.
        """
        self._older_tokens = older_tokens(state.log_history)
        self.tokens = self._older_tokens + int(state.num_input_tokens_seen)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._points:
            self.write(state, now=True)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step_start = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._times.append(time.monotonic() - self._step_start)
        self._step_end = time.monotonic()
        self._stop_if_requested(args, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._evaluation_time = time.monotonic() - self._step_end
        self._stop_if_requested(args, control)

    def _stop_if_requested(self, args: TrainingArguments, control: TrainerControl) -> None:
        if self.stopping:
            control.should_save = args.save_strategy != SaveStrategy.NO
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._save_time = time.monotonic() - self._step_end

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "loss" in logs:
            self._log_step(state, logs, control.should_save, bool(args and args.fp16))
        if "eval_loss" in logs:
            loss = float(logs["eval_loss"])
            self.write(state, now=True, evaluations=[[state.global_step, loss]])

    def _log_step(self, state: TrainerState, logs: dict[str, Any], saved: bool, scaled: bool) -> None:
        step, loss, norm = state.global_step, float(logs["loss"]), float(logs.get("grad_norm") or 0.0)
        tokens = self._older_tokens + int(state.num_input_tokens_seen)
        step_time = self._times[-1] if self._times else 0.0
        if step_time and self.tokens:
            self._speeds.append((tokens - self.tokens) / step_time)
        self.tokens = tokens
        if scaled:  # the float16 loss scaler overflows in the first steps and skips them
            norm = norm if math.isfinite(norm) else 0.0
        self._check_loss(step, loss, norm, float(logs.get("learning_rate", 0.0)))
        self.losses.append((step, loss))
        self._points.append([step, loss, float(logs.get("learning_rate", 0.0)), norm])
        # Write the points before the checkpoint is saved: a resumed run continues after them.
        self.write(state, now=saved or step == state.max_steps or len(self.losses) == 1)

    def _check_loss(self, step: int, loss: float, norm: float, rate: float) -> None:
        """LabError if the loss is not finite or has diverged."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise LabError(
                f"The loss is not a finite number (step {step}, learning rate {rate:.1e}), so the training was ended. "
                "Lower the learning rate or add warm-up steps, and start again."
            )
        before = statistics.median(self._recent) if len(self._recent) == RECENT else math.inf
        self._recent.append(loss)
        newest = list(self._recent)[-3:]
        if min(newest) > SPIKE_FACTOR * before + SPIKE_RISE:
            raise LabError(
                f"The loss rose from {before:.2f} to {loss:.2f} (step {step}, learning rate {rate:.1e}) and stayed "
                "there, so the training was ended. Lower the learning rate, and start again."
            )

    def write(self, state: TrainerState, now: bool = False, **more: Any) -> None:
        """Write one event for the steps since the last event, if it is due or `now`."""
        if now or self.journal.due:
            self.journal.step(TrainStep(**self._facts(state), points=self._points, **more), now=True)
            self._points = []

    def _facts(self, state: TrainerState) -> dict[str, Any]:
        self.memory = max(self.memory, _memory())
        step_time = statistics.median(self._times) if self._times else 0.0
        return {
            "state": "stopping" if self.stopping else "training",
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": round(float(state.epoch or 0), 3),
            "samples": state.global_step * self.samples,
            "tokens": self.tokens,
            "tokens_per_second": round(statistics.median(self._speeds), 1) if self._speeds else 0.0,
            "left": round((state.max_steps - state.global_step) * step_time, 1),
            "memory": self.memory,
            "grace": round(
                max(MIN_GRACE, 3 * max(self._times, default=0) + 2 * self._save_time + self._evaluation_time), 1
            ),
        }


def older_tokens(history: Sequence[dict[str, Any]]) -> int:
    """Tokens that only TRL counted, in checkpoints of older versions of this app: entries without
    `num_input_tokens_seen`. TRL counts from 0 after each resume, so the counts of all parts are added."""
    older = [entry for entry in history if "num_tokens" in entry and "num_input_tokens_seen" not in entry]
    total = highest = 0
    for count in [int(entry["num_tokens"]) for entry in older]:
        total, highest = (total + highest, count) if count < highest else (total, count)
    return total + highest


def _memory() -> int:
    """Bytes in use: of the GPU if there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
