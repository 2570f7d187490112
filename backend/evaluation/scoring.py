"""Scores several answers at the same time. Each score is stored when it arrives."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, Protocol, TypeVar

from backend.evaluation import records
from backend.evaluation.judge_setup import Judge
from backend.judge.score import Item, Score

GRACE = 20.0  # seconds that calls in flight may take to end after a stop: they are paid for
INTERVAL = 0.5  # seconds between two reports of progress
Task = TypeVar("Task")


class Cancellable(Protocol):
    """A judge that can be stopped."""

    def cancel_waiting(self) -> None:
        """End the calls that wait. Calls in flight may still be answered."""
        ...

    def close(self) -> None:
        """End the calls in flight, too."""
        ...


class ScoringTask(NamedTuple):
    """An answer to score. `repeat`: 0 for its first score, 1 for its second ..."""

    item: Item
    repeat: int = 0


def missing_scores(judge: Judge, wanted: Iterable[ScoringTask], known: dict[str, list[Score]]) -> list[ScoringTask]:
    """The tasks without a valid score. Identical answers to a question are one task."""
    tasks: dict[str, ScoringTask] = {}
    for task in wanted:
        key = task.item.key(judge.identity.id, task.repeat)
        if key not in known or records.best(known[key]).status != "ok":
            tasks.setdefault(key, task)
    return list(tasks.values())


def score_tasks(
    judge: Judge,
    todo: Sequence[ScoringTask],
    known: dict[str, list[Score]],
    keep: Callable[[Score], None],
    say: Callable[[int], None],
    calls: Cancellable,
) -> None:
    """Score every task of `todo`. Each score is passed to `keep` and added to `known`. Stops as `run_concurrently`."""
    lock = threading.Lock()

    def score(task: ScoringTask) -> None:
        key = task.item.key(judge.identity.id, task.repeat)
        result = judge.score(task.item, task.repeat, len(known.get(key, ())))
        if result.status == "cancelled":
            return
        with lock:  # two scores must not be written into each other's line, and `known` is read by the caller
            keep(result)
            known.setdefault(key, []).append(result)

    run_concurrently(todo, score, judge.together, say, calls)


def run_concurrently(
    todo: Sequence[Task],
    do: Callable[[Task], None],
    together: int,
    say: Callable[[int], None],
    calls: Cancellable,
) -> None:
    """Call `do` with every task in order, `together` at the same time. `say` is called with the number of tasks done.

    If one task raises an error, tasks that have not started never start, and `calls.cancel_waiting` is called. Tasks in
    flight may end within GRACE; then `calls.close` ends them. The error is raised again.
    """
    over, futures, ended = threading.Event(), list[Future[None]](), list[Task]()

    def unless_over(task: Task) -> None:
        if over.is_set():
            return
        try:
            do(task)
        except BaseException:
            over.set()  # at once: the next task would start before
            raise
        ended.append(task)

    with ThreadPoolExecutor(max_workers=max(1, together)) as pool:
        try:
            for task in todo:
                futures.append(pool.submit(unless_over, task))
            _wait_for(futures, lambda: say(len(ended)))
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            calls.cancel_waiting()
            # `wait` never returns for a cancelled future
            wait([future for future in futures if not future.cancelled()], GRACE)
            calls.close()
            raise


def _wait_for(futures: Sequence["Future[None]"], progress: Callable[[], None]) -> None:
    """Wait for all; raises the error of the first that failed."""
    left = set(futures)
    while left:
        ended, left = wait(left, INTERVAL, FIRST_COMPLETED)
        for future in ended:
            future.result()
        progress()
