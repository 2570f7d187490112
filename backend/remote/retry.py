"""Retries calls after temporary errors. All threads of a run share one policy, because a rate limit affects all."""

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
PAUSE = 1.0  # seconds; pauses are random, up to 2, 4, 8 ... times this
LONGEST_PAUSE = 30.0
LONGEST_WAIT = 120.0  # if a server requires a longer pause, the run stops
LONGEST = 300.0  # seconds for one question, pauses included


@dataclass(frozen=True)
class RetryResult:
    """The result of the last attempt; None if the call was cancelled before its first attempt."""

    result: ApiReply | ApiError | None
    attempts: int
    seconds: float


class RetryPolicy:
    """Makes calls through a client, and repeats them after temporary errors. Times are in seconds."""

    def __init__(
        self, api: ApiClient, pause: float = PAUSE, timeout: float = TIMEOUT, longest: float = LONGEST
    ) -> None:
        self._api, self._pause, self._timeout, self._longest = api, pause, timeout, longest
        self._until = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def waiting_until(self) -> float:
        """When calls continue after a rate limit, in seconds since 1970; 0 if none applies."""
        left = self._until - time.monotonic()
        return time.time() + left if left > 0 else 0.0

    def cancel_waiting(self) -> None:
        """End all pauses and make no more calls. Calls in progress may still be answered."""
        self._over.set()

    def close(self) -> None:
        """End the calls in progress, too."""
        self.cancel_waiting()
        self._api.close()

    def ask(
        self,
        request: dict[str, Any],
        what: str,
        attempts: int = ATTEMPTS,
        again: Collection[errors.Kind] = TEMPORARY,
    ) -> RetryResult:
        """Make a call, and repeat it after errors whose kind is in `again`, up to `attempts` calls in all.

        Raises LabError for an error that stops the whole run.
        """
        start = time.monotonic()
        end, result, attempt = start + self._longest, None, 0
        while attempt < attempts and self._wait_for_limit(end):
            result = self._api.call(request, what, min(self._timeout, end - time.monotonic()))
            attempt += 1
            if isinstance(result, ApiReply) or result.kind not in again:
                break
            self._pause_after(result, attempt, end, last=attempt == attempts)
        if self._over.is_set() and not isinstance(result, ApiReply):
            result = None
        elif result is None:
            result = ApiError(
                "timed_out", why=f"The judge's address limited the rate for more than {self._longest:.0f} seconds."
            )
        if isinstance(result, ApiError):
            why = errors.reason_to_stop(result, self._api.model, self._api.address)
            if why:
                raise LabError(why)
        return RetryResult(result, attempt, time.monotonic() - start)

    def _wait_for_limit(self, end: float) -> bool:
        """Wait until the rate limit ends. False if that is after `end`, or if the calls were cancelled."""
        while not self._over.is_set():
            now = time.monotonic()
            wait = self._until - now
            if now >= end or now + wait >= end:
                return False
            if wait <= 0:
                return True
            self._over.wait(wait + random.uniform(0, self._pause / 4))
        return False

    def _pause_after(self, error: ApiError, attempt: int, end: float, last: bool) -> None:
        """Wait after a failed attempt; a rate limit makes all threads wait."""
        after = error.retry_after
        if after is not None and after > LONGEST_WAIT:
            raise errors.too_long_to_wait(after, self._api.address)
        pause = random.uniform(0, min(LONGEST_PAUSE, self._pause * 2**attempt)) if after is None else after
        if error.kind == "rate":
            with self._lock:
                self._until = max(self._until, time.monotonic() + pause)
        elif not last:
            self._over.wait(max(0.0, min(pause, end - time.monotonic())))
