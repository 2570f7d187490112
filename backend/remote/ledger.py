"""What judging costs, written down before it is spent. One file for all runs, so that limits hold over all of them.

A call is reserved at the most it can cost, then settled at what it did cost, or released when it cannot have been
billed. What is neither, because the call broke off or the program died, stays at its full amount: outcome unknown.
"""

import base64
import fcntl
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.core import jsonl
from backend.core.errors import LabError

FILE = "ledger.jsonl"
DAY = 24 * 3600.0


class Entry(BaseModel):
    """How far a call is. The last entry of an id holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    run: str
    at: float = Field(allow_inf_nan=False)
    """When it was reserved."""
    state: Literal["reserved", "settled", "released"]
    what: str = ""
    dollars: float = Field(ge=0, allow_inf_nan=False)
    """While it is reserved, the most it can be."""
    tokens_in: int = Field(0, ge=0)
    tokens_out: int = Field(0, ge=0)
    reckoned: bool = False
    """The address told no usage: `dollars` are what was reserved, and the tokens are estimated from the lengths."""


class Spent(BaseModel):
    """A sum over calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settled: float = 0.0
    unknown: float = 0.0
    """At most this much more: calls under way, and calls nobody knows the end of."""
    calls: int = 0
    """Settled ones and unknown ones."""
    open: int = 0
    """The unknown ones among them."""
    reckoned: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    since: float = 0.0
    """When the first of them was made; 0 when there is none."""

    @property
    def most(self) -> float:
        return self.settled + self.unknown


class Ledger:
    """The writing side: of one run, in one process. Safe to use from several threads; costs are in dollars."""

    def __init__(self, path: Path, cap_run: float, cap_day: float, run: str) -> None:
        self._path, self._run = path, run
        self._cap_run, self._cap_day = cap_run, cap_day
        self._entries: dict[str, Entry] = {}
        self._read = 0

    def reserve(self, what: str, most: float) -> str:
        """Write down that a call of at most `most` is about to be made. LabError when a limit forbids it or when it
        cannot be written: then nothing may be sent."""
        refuse_without_limit(self._cap_run, self._cap_day)
        with self._locked():
            self._check(most)
            entry = Entry(
                id=uuid.uuid4().hex[:16], run=self._run, at=time.time(), state="reserved", what=what, dollars=most
            )
            self._write(entry)
        return entry.id

    def settle(self, id: str, cost: float, tokens_in: int, tokens_out: int, reckoned: bool = False) -> None:
        """The call came back and cost this."""
        self._end(id, state="settled", dollars=cost, tokens_in=tokens_in, tokens_out=tokens_out, reckoned=reckoned)

    def release(self, id: str) -> None:
        """The call was refused or never left: certainly nothing was billed."""
        self._end(id, state="released", dollars=0.0)

    def open_ones(self) -> list[Entry]:
        """Calls of this run that are under way or whose outcome is unknown."""
        with self._locked():
            return [one for one in self._entries.values() if one.run == self._run and one.state == "reserved"]

    def _end(self, id: str, **how: object) -> None:
        with self._locked():
            known = self._entries.get(id)
            base = {"id": id, "run": self._run, "at": time.time()} if known is None else known.model_dump()
            self._write(Entry.model_validate(base | how))

    def _check(self, most: float) -> None:
        entries = self._entries.values()
        run = total(one for one in entries if one.run == self._run)
        day = total(one for one in entries if one.at >= time.time() - DAY)
        for sum_, cap, of, do in (
            (run, self._cap_run, "this run", "Raise the run's limit and resume"),
            (day, self._cap_day, "the last 24 hours, all runs together,", "Resume later, or raise the daily limit"),
        ):
            if sum_.most + most > cap + 1e-12:
                raise LabError(
                    f"The limit for {of} is {dollars(cap)}: {dollars(sum_.settled)} are spent, up to "
                    f"{dollars(sum_.unknown)} more are reserved or of unknown outcome, and the next call can cost up "
                    f"to {dollars(most)}. {do}; what is judged so far is kept."
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads and processes, and up to date."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._catch_up()
                yield
        except OSError as error:
            raise LabError(
                f"What judging costs cannot be written down ({error.strerror or 'the disk refuses it'}), and without "
                "that nothing more is spent. Make room on the disk and resume; what is judged so far is kept."
            ) from None

    def _write(self, entry: Entry) -> None:
        jsonl.append(self._path, entry.model_dump())

    def _catch_up(self) -> None:
        """Read what others and we ourselves have added: whole lines only, from where the last reading ended."""
        if not self._path.exists():
            self._entries, self._read = {}, 0
            return
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._read:  # another file stands in its place
                self._entries, self._read = {}, 0
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._entries |= _entries(whole)
        oldest = time.time() - DAY
        self._entries = {id: one for id, one in self._entries.items() if one.run == self._run or one.at >= oldest}


def refuse_without_limit(cap_run: float, cap_day: float) -> None:
    """LabError where both limits are 0: then no judge behind an address is called, also one that costs nothing."""
    if not cap_run and not cap_day:
        raise LabError(
            "The limit of the run and the limit of the day are both $0, so no judge at an address is called. Raise "
            "“Limit of this run, $” (JUDGE_CAP_RUN) or JUDGE_CAP_DAY in .env, or choose a judge on this machine."
        )


def spent(path: Path, run: str = "", since: float = 0.0) -> Spent:
    """The reading side: what the file says of one run, or of all of them, from a time on."""
    entries = _entries(path.read_bytes()) if path.exists() else {}
    return total(one for one in entries.values() if run in ("", one.run) and one.at >= since)


def total(entries: Iterable[Entry]) -> Spent:
    counted = [one for one in entries if one.state != "released"]
    unknown = [one.dollars for one in counted if one.state == "reserved"]
    return Spent(
        settled=sum(one.dollars for one in counted if one.state == "settled"),
        unknown=sum(unknown),
        calls=len(counted),
        open=len(unknown),
        reckoned=sum(one.reckoned for one in counted),
        tokens_in=sum(one.tokens_in for one in counted),
        tokens_out=sum(one.tokens_out for one in counted),
        since=min((one.at for one in counted), default=0.0),
    )


def dollars(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.4f}"


def _entries(data: bytes) -> dict[str, Entry]:
    """By id, the last of each; a damaged line is passed over."""
    found = {}
    for line in data.splitlines():
        try:
            entry = Entry.model_validate_json(line)
        except ValueError:
            continue
        found[entry.id] = entry
    return found


class SavedReplies:
    """Bodies by what was asked. Of one run; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known: dict[str, bytes] = {}
        self._calls: set[str] = set()
        for one in jsonl.read(path):
            body = _bytes(one.get("body"))
            if body is not None and isinstance(one.get("what"), str):
                self._known[one["what"]] = body
                self._calls.add(str(one.get("call")))

    def recall(self, what: str) -> bytes | None:
        """The body that was answered to it; None if none was."""
        with self._lock:
            return self._known.get(what)

    def brought(self, call: str) -> bool:
        """Whether it was this call, by its id in the ledger, that brought an answer."""
        with self._lock:
            return call in self._calls

    def keep(self, what: str, raw: bytes, call: str) -> None:
        """`call`: its id in the ledger. LabError if it cannot be written: then nothing more may be asked."""
        with self._lock:
            try:
                jsonl.append(self._path, {"what": what, "call": call, "body": _text(raw)})
            except OSError as error:
                raise LabError(
                    f"What the judge said cannot be written down ({error.strerror or 'the disk refuses it'}). Make "
                    "room on the disk and resume; what is judged so far is kept."
                ) from None
            self._known[what] = raw
            self._calls.add(call)


def _text(raw: bytes) -> str:
    """As it is where it is text, so that a person can read it."""
    try:
        return "=" + raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _bytes(text: object) -> bytes | None:
    """None for what was never written here: a damaged line is no answer."""
    if not isinstance(text, str):
        return None
    try:
        return text[1:].encode("utf-8", "replace") if text.startswith("=") else base64.b64decode(text, validate=True)
    except ValueError:
        return None
