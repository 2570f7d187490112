"""What a training says while it runs, and when it says that it has gone wrong."""

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

RECENT = 20  # steps that the time left and a spike are judged by
PATIENCE = 60.0  # seconds that a stop may take at least
SPIKE = 3.0  # times what the loss was before, and more than LEAST above it
LEAST = 2.0


class Progress(TrainerCallback):  # type: ignore[misc]
    """Writes steps into the run's journal, saves when it is told to stop, ends what has diverged."""

    def __init__(self, journal: Journal, samples: int) -> None:
        self.journal, self.samples = journal, samples
        self.stopping = False
        self.tokens = 0
        self.memory = 0
        self._before = 0
        self.losses: list[tuple[int, float]] = []
        self._points: list[list[float]] = []
        self._times: deque[float] = deque(maxlen=RECENT)
        self._paces: deque[float] = deque(maxlen=RECENT)
        self._began = self._saving = self._saved = self._evaluated = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """From here on a stop is polite: it waits for the step's end and saves."""
        if signal.signal(signal.SIGTERM, self._stop) == signal.SIG_IGN:
            self.stopping = True  # it was told to stop while it loaded, and a library swallowed that
        self.tokens = self._before = before(state.log_history)
        self._began = self._saving = time.monotonic()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._points:
            self.write(state, now=True)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._times.append(time.monotonic() - self._began)
        self._saving = time.monotonic()
        self._end(args, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._evaluated = time.monotonic() - self._saving
        self._end(args, control)

    def _end(self, args: TrainingArguments, control: TrainerControl) -> None:
        if self.stopping:
            control.should_save = args.save_strategy != SaveStrategy.NO
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = time.monotonic() - self._saving

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "loss" in logs:
            self._learnt(state, logs, control.should_save, bool(args and args.fp16))
        if "eval_loss" in logs:
            loss = float(logs["eval_loss"])
            self.write(state, now=True, evaluations=[[state.global_step, loss]])

    def _learnt(self, state: TrainerState, logs: dict[str, Any], saved: bool, scaled: bool) -> None:
        step, loss, norm = state.global_step, float(logs["loss"]), float(logs.get("grad_norm") or 0.0)
        tokens = self._before + int(logs.get("num_tokens", 0))
        took = self._times[-1] if self._times else 0.0
        if took and self.tokens:
            self._paces.append((tokens - self.tokens) / took)
        self.tokens = tokens
        if scaled:  # a scaler for float16 begins by overflowing, and passes those steps over
            norm = norm if math.isfinite(norm) else 0.0
        self._judge(step, loss, norm, float(logs.get("learning_rate", 0.0)))
        self.losses.append((step, loss))
        self._points.append([step, loss, float(logs.get("learning_rate", 0.0)), norm])
        # what a checkpoint holds is on the curve before it: a resumed run does not tell it again
        self.write(state, now=saved or step == state.max_steps or len(self.losses) == 1)

    def _judge(self, step: int, loss: float, norm: float, rate: float) -> None:
        """LabError when going on would only cost time."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise LabError(
                f"The loss is no number any more (step {step}, learning rate {rate:.1e}), so the training ended. "
                "Lower the learning rate or warm up longer, and start again."
            )
        before = statistics.median(self._recent) if len(self._recent) == RECENT else math.inf
        self._recent.append(loss)
        newest = list(self._recent)[-3:]
        if min(newest) > SPIKE * before + LEAST:
            raise LabError(
                f"The loss rose from {before:.2f} to {loss:.2f} (step {step}, learning rate {rate:.1e}) and stayed "
                "there, so the training ended. Lower the learning rate, and start again."
            )

    def write(self, state: TrainerState, now: bool = False, **more: Any) -> None:
        """One event for the steps since the last. `points` are [step, loss, learning rate, gradient norm]."""
        if now or self.journal.due:
            self.journal.step(TrainStep(**self._facts(state), points=self._points, **more), now=True)
            self._points = []

    def _facts(self, state: TrainerState) -> dict[str, Any]:
        self.memory = max(self.memory, _memory())
        pace = statistics.median(self._times) if self._times else 0.0
        return {
            "state": "stopping" if self.stopping else "training",
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": round(float(state.epoch or 0), 3),
            "samples": state.global_step * self.samples,
            "tokens": self.tokens,
            "tokens_per_second": round(statistics.median(self._paces), 1) if self._paces else 0.0,
            "left": round((state.max_steps - state.global_step) * pace, 1),
            "memory": self.memory,
            "grace": round(max(PATIENCE, 3 * max(self._times, default=0) + 2 * self._saved + self._evaluated), 1),
        }


def before(history: Sequence[dict[str, Any]]) -> int:
    """Tokens seen before a run was resumed: TRL counts from nothing each time."""
    total = highest = 0
    for count in [int(entry["num_tokens"]) for entry in history if "num_tokens" in entry]:
        total, highest = (total + highest, count) if count < highest else (total, count)
    return total + highest


def _memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
