"""Many answers judged: what is missing, in the order of the rows, several at once, and kept as each comes."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, Protocol, TypeVar

from backend.evaluation import records
from backend.evaluation.judge_setup import Judge
from backend.judge.score import Item, Score

GRACE = 20.0  # seconds that calls which are under way are given when a run is stopped: they are paid for
LOOK = 0.5
Thing = TypeVar("Thing")


class Cancellable(Protocol):
    """A judge that can be stopped."""

    def cancel_waiting(self) -> None:
        """Those who only wait end; those whose call is under way may still be answered."""
        ...

    def close(self) -> None:
        """Those whose call is under way end, too."""
        ...


class ScoringTask(NamedTuple):
    """An answer to be judged, for the `repeat`-th time."""

    item: Item
    repeat: int = 0


def missing_scores(judge: Judge, wanted: Iterable[ScoringTask], known: dict[str, list[Score]]) -> list[ScoringTask]:
    """The tasks without a valid score; identical answers once."""
    tasks: dict[str, ScoringTask] = {}
    for variant in wanted:
        key = variant.item.key(judge.identity.id, variant.repeat)
        if key not in known or records.best(known[key]).status != "ok":
            tasks.setdefault(key, variant)
    return list(tasks.values())


def score_tasks(
    judge: Judge,
    todo: Sequence[ScoringTask],
    known: dict[str, list[Score]],
    keep: Callable[[Score], None],
    say: Callable[[int], None],
    asked: Cancellable,
) -> None:
    """Score every task of `todo`; each score is passed to `keep` and added to `known`. Stops as `run_concurrently`."""
    lock = threading.Lock()

    def score(task: ScoringTask) -> None:
        key = task.item.key(judge.identity.id, task.repeat)
        result = judge.score(task.item, task.repeat, len(known.get(key, ())))
        if result.status == "cancelled":
            return
        with lock:  # two scores must not be written into each other's line, and `known` is read by the caller
            keep(result)
            known.setdefault(key, []).append(result)

    run_concurrently(todo, score, judge.together, say, asked)


def run_concurrently(
    todo: Sequence[Thing],
    do: Callable[[Thing], None],
    together: int,
    say: Callable[[int], None],
    asked: Cancellable,
) -> None:
    """`do` to every one, in their order, `together` at once. `say` is told how many are done. LabError where going on
    makes no sense: what is under way then may still end, and what has not begun never does.

    `asked` is let go at a stop, and closed if what is under way does not end by itself then.
    """
    over, futures, ended = threading.Event(), list[Future[None]](), list[Thing]()

    def unless_over(one: Thing) -> None:
        if over.is_set():
            return
        try:
            do(one)
        except BaseException:
            over.set()  # at once: the next task would start before
            raise
        ended.append(one)

    with ThreadPoolExecutor(max_workers=max(1, together)) as pool:
        try:
            for task in todo:
                futures.append(pool.submit(unless_over, task))
            _follow(futures, lambda: say(len(ended)))
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            asked.cancel_waiting()
            wait(
                [future for future in futures if not future.cancelled()], GRACE
            )  # `wait` never returns for a cancelled one
            asked.close()
            raise


def _follow(futures: Sequence["Future[None]"], look: Callable[[], None]) -> None:
    """Until all are done, or until one has failed."""
    left = set(futures)
    while left:
        ended, left = wait(left, LOOK, FIRST_COMPLETED)
        for one in ended:
            one.result()
        look()
