"""Asking again: when, how often, and how long to wait. One for all threads of a run: a limit of rate is everybody's."""

import random
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from backend.core.errors import LabError
from backend.remote import errors
from backend.remote.client import TIMEOUT, ApiClient, ApiReply
from backend.remote.errors import TEMPORARY, ApiError

ATTEMPTS = 4
PAUSE = 1.0  # seconds: pauses lie between 0 and this, then twice this, and so on
LONGEST_PAUSE = 30.0
LONGEST_WAIT = 120.0  # an address that asks for more is left alone
LONGEST = 300.0  # seconds for one question, waiting included


@dataclass(frozen=True)
class RetryResult:
    """`told` of the last attempt; None: it was cancelled before one was made."""

    told: ApiReply | ApiError | None
    attempts: int
    seconds: float


class RetryPolicy:
    """Makes calls through a line, and makes them again where that can help."""

    def __init__(
        self, line: ApiClient, pause: float = PAUSE, timeout: float = TIMEOUT, longest: float = LONGEST
    ) -> None:
        self._line, self._pause, self._timeout, self._longest = line, pause, timeout, longest
        self._until = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def waiting_until(self) -> float:
        """When asking goes on, in seconds since 1970; 0 when nobody has to wait."""
        left = self._until - time.monotonic()
        return time.time() + left if left > 0 else 0.0

    def let_go(self) -> None:
        """Whoever waits stops waiting, and nobody asks any more; calls under way may still be answered."""
        self._over.set()

    def close(self) -> None:
        """Calls under way end, too."""
        self.let_go()
        self._line.close()

    def ask(
        self,
        asked: dict[str, Any],
        what: str,
        attempts: int = ATTEMPTS,
        again: Collection[errors.Kind] = TEMPORARY,
    ) -> RetryResult:
        """LabError where going on makes no sense. Trouble of another kind than `again` is handed back at once."""
        begun = time.monotonic()
        end, told, made = begun + self._longest, None, 0
        while made < attempts and self._turn(end):
            told = self._line.call(asked, what, min(self._timeout, end - time.monotonic()))
            made += 1
            if isinstance(told, ApiReply) or told.kind not in again:
                break
            self._rest(told, made, end, last=made == attempts)
        if self._over.is_set() and not isinstance(told, ApiReply):
            told = None
        elif told is None:
            told = ApiError(
                "timed_out", why=f"The judge's address kept everybody waiting for {self._longest:.0f} seconds."
            )
        if isinstance(told, ApiError):
            why = errors.stop_for(told, self._line.model, self._line.address)
            if why:
                raise LabError(why)
        return RetryResult(told, made, time.monotonic() - begun)

    def _turn(self, end: float) -> bool:
        """Wait until everybody may ask again; False when that takes too long, or when it is over."""
        while not self._over.is_set():
            now = time.monotonic()
            wait = self._until - now
            if now >= end or now + wait >= end:
                return False
            if wait <= 0:
                return True
            self._over.wait(wait + random.uniform(0, self._pause / 4))
        return False

    def _rest(self, told: ApiError, made: int, end: float, last: bool) -> None:
        after = told.after
        if after is not None and after > LONGEST_WAIT:
            raise errors.too_long_to_wait(after, self._line.address)
        pause = random.uniform(0, min(LONGEST_PAUSE, self._pause * 2**made)) if after is None else after
        if told.kind == "rate":
            with self._lock:
                self._until = max(self._until, time.monotonic() + pause)
        elif not last:
            self._over.wait(max(0.0, min(pause, end - time.monotonic())))
