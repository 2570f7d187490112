"""Records what judge calls cost, enforces the spending limits, and saves the replies.

All runs share one ledger file, so that the daily limit covers all of them. A call is reserved at the most that it can
cost. Then it is settled at its actual cost, or released if it cannot have been billed. A call that is neither, because
the connection broke or the process died, stays reserved: its outcome is unknown.
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
    """The state of a call. The last entry of an id is the valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    run: str
    at: float = Field(allow_inf_nan=False)
    """When it was reserved, in seconds since 1970."""
    state: Literal["reserved", "settled", "released"]
    what: str = ""
    dollars: float = Field(ge=0, allow_inf_nan=False)
    """The cost. While the call is reserved, the most that it can cost."""
    tokens_in: int = Field(0, ge=0)
    tokens_out: int = Field(0, ge=0)
    reckoned: bool = False
    """The response had no token counts: `dollars` is the reserved amount, and the tokens are estimated."""


class Spent(BaseModel):
    """The sum over a set of calls, in dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settled: float = 0.0
    unknown: float = 0.0
    """The most that calls in progress and calls of unknown outcome can cost."""
    calls: int = 0
    """Number of settled and reserved calls."""
    open: int = 0
    """Number of reserved calls among them."""
    estimated: int = 0
    """Number of calls whose cost is `Entry.reckoned`."""
    tokens_in: int = 0
    tokens_out: int = 0
    since: float = 0.0
    """Time of the first call, in seconds since 1970; 0 if there is none."""

    @property
    def most(self) -> float:
        return self.settled + self.unknown


class Ledger:
    """Writes the calls of one run. Safe to use from several threads and processes. Costs are in dollars."""

    def __init__(self, path: Path, cap_run: float, cap_day: float, run: str) -> None:
        self._path, self._run = path, run
        self._cap_run, self._cap_day = cap_run, cap_day
        self._entries: dict[str, Entry] = {}
        self._read = 0

    def reserve(self, what: str, most: float) -> str:
        """Reserve `most` dollars for a call that is about to be made, and return the id of the entry.

        Raises LabError if a limit forbids the call or if the file cannot be written. Then nothing may be sent.
        """
        refuse_without_limit(self._cap_run, self._cap_day)
        with self._locked():
            self._check(most)
            entry = Entry(
                id=uuid.uuid4().hex[:16], run=self._run, at=time.time(), state="reserved", what=what, dollars=most
            )
            self._write(entry)
        return entry.id

    def settle(self, id: str, cost: float, tokens_in: int, tokens_out: int, estimated: bool = False) -> None:
        """Record the actual cost of a call."""
        self._finish(id, state="settled", dollars=cost, tokens_in=tokens_in, tokens_out=tokens_out, reckoned=estimated)

    def release(self, id: str) -> None:
        """Record that a call was refused or never sent, so that it was certainly not billed."""
        self._finish(id, state="released", dollars=0.0)

    def open_entries(self) -> list[Entry]:
        """The calls of this run that are in progress or whose outcome is unknown."""
        with self._locked():
            return [entry for entry in self._entries.values() if entry.run == self._run and entry.state == "reserved"]

    def _finish(self, id: str, **fields: object) -> None:
        with self._locked():
            known = self._entries.get(id)
            base = {"id": id, "run": self._run, "at": time.time()} if known is None else known.model_dump()
            self._write(Entry.model_validate(base | fields))

    def _check(self, most: float) -> None:
        """Raise LabError if `most` more dollars exceed the limit of the run or of the day."""
        entries = self._entries.values()
        run = total(entry for entry in entries if entry.run == self._run)
        day = total(entry for entry in entries if entry.at >= time.time() - DAY)
        for spending, cap, scope, advice in (
            (run, self._cap_run, "this run", "Raise the run's limit and resume"),
            (day, self._cap_day, "the last 24 hours, all runs together,", "Resume later, or raise the daily limit"),
        ):
            if spending.most + most > cap + 1e-12:
                raise LabError(
                    f"The limit for {scope} is {dollars(cap)}: {dollars(spending.settled)} are spent, up to "
                    f"{dollars(spending.unknown)} more are reserved or of unknown outcome, and the next call can cost "
                    f"up to {dollars(most)}. {advice}. The judgements made so far are stored."
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the file against other threads and processes, and read its new entries."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._read_new()
                yield
        except OSError as error:
            raise LabError(
                f"The cost of the next call cannot be written ({error.strerror or 'the disk refuses it'}), so no call "
                "is made. Free some disk space and resume. The judgements made so far are stored."
            ) from None

    def _write(self, entry: Entry) -> None:
        jsonl.append(self._path, entry.model_dump())

    def _read_new(self) -> None:
        """Read the lines that were added since the last read, by any process. An incomplete last line is left."""
        if not self._path.exists():
            self._entries, self._read = {}, 0
            return
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._read:  # the file was replaced
                self._entries, self._read = {}, 0
            file.seek(self._read)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete)
        self._entries |= _entries(complete)
        oldest = time.time() - DAY
        self._entries = {id: e for id, e in self._entries.items() if e.run == self._run or e.at >= oldest}


def refuse_without_limit(cap_run: float, cap_day: float) -> None:
    """Raise LabError if both limits are 0: then no remote judge is called, not even one that costs nothing."""
    if not cap_run and not cap_day:
        raise LabError(
            "The limit of the run and the limit of the day are both $0, so no remote judge is called. Raise “Limit of "
            "this run, $” (JUDGE_CAP_RUN) or JUDGE_CAP_DAY in .env, or choose a judge on this machine."
        )


def spent(path: Path, run: str = "", since: float = 0.0) -> Spent:
    """Read the file and sum the calls of one run, or of all runs if `run` is empty, that are not older than `since`."""
    entries = _entries(path.read_bytes()) if path.exists() else {}
    return total(entry for entry in entries.values() if run in ("", entry.run) and entry.at >= since)


def total(entries: Iterable[Entry]) -> Spent:
    """Sum the calls. Released calls do not count."""
    counted = [entry for entry in entries if entry.state != "released"]
    unknown = [entry.dollars for entry in counted if entry.state == "reserved"]
    return Spent(
        settled=sum(entry.dollars for entry in counted if entry.state == "settled"),
        unknown=sum(unknown),
        calls=len(counted),
        open=len(unknown),
        estimated=sum(entry.reckoned for entry in counted),
        tokens_in=sum(entry.tokens_in for entry in counted),
        tokens_out=sum(entry.tokens_out for entry in counted),
        since=min((entry.at for entry in counted), default=0.0),
    )


def dollars(amount: float) -> str:
    """An amount with two decimals from one dollar on, four below."""
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.4f}"


def _entries(data: bytes) -> dict[str, Entry]:
    """Id -> its last entry. Damaged lines are ignored."""
    entries = {}
    for line in data.splitlines():
        try:
            entry = Entry.model_validate_json(line)
        except ValueError:
            continue
        entries[entry.id] = entry
    return entries


class SavedReplies:
    """The response bodies of one run, by the key of their question. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._bodies: dict[str, bytes] = {}
        self._calls: set[str] = set()
        for record in jsonl.read(path):
            body = _bytes(record.get("body"))
            if body is not None and isinstance(record.get("what"), str):
                self._bodies[record["what"]] = body
                self._calls.add(str(record.get("call")))

    def recall(self, what: str) -> bytes | None:
        """The saved body of a question; None if there is none."""
        with self._lock:
            return self._bodies.get(what)

    def has_call(self, call: str) -> bool:
        """Whether a body of this call is saved. `call`: its id in the ledger."""
        with self._lock:
            return call in self._calls

    def save(self, what: str, raw: bytes, call: str) -> None:
        """Save the body of a question. `call`: its id in the ledger.

        Raises LabError if it cannot be written. Then no more calls may be made.
        """
        with self._lock:
            try:
                jsonl.append(self._path, {"what": what, "call": call, "body": _text(raw)})
            except OSError as error:
                raise LabError(
                    f"The judge's reply cannot be written ({error.strerror or 'the disk refuses it'}). Free some disk "
                    "space and resume. The judgements made so far are stored."
                ) from None
            self._bodies[what] = raw
            self._calls.add(call)


def _text(raw: bytes) -> str:
    """A body as text: "=" and the text itself if it is UTF-8, so that people can read it; else base64."""
    try:
        return "=" + raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _bytes(text: object) -> bytes | None:
    """The inverse of `_text`; None for damaged text."""
    if not isinstance(text, str):
        return None
    try:
        return text[1:].encode("utf-8", "replace") if text.startswith("=") else base64.b64decode(text, validate=True)
    except ValueError:
        return None
