"""The lab: everything the screen, the tests and the benches ask for, behind one door."""

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from backend.errors import LabError
from backend.inference.engines import Engines, Manner, Seat
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from backend.judge import judgement
from backend.judge.judgement import Judgement, Record
from backend.messages import Message
from backend.settings import Settings
from models.catalogue import Entry, look
from models.template import templates

Spoken = Literal["as trained", "as its file says"]


class Lab:
    """Holds the running engines; all else is read from disk when it is asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._engines = Engines(settings)
        self._votes = settings.lab_runs / "judgements.jsonl"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every engine."""
        self._engines.close()

    def entries(self) -> list[Entry]:
        """Every variant and its state, as the disk has it now."""
        return look(self.settings.lab_weights)

    def entry(self, variant: str) -> Entry:
        """LabError if there is no such variant."""
        for entry in self.entries():
            if entry.variant.id == variant:
                return entry
        raise LabError(f"There is no variant named {str(variant)[:100]!r}. The Library tab lists those there are.")

    def reply(
        self, variant: str, messages: Sequence[Message], sampling: Sampling, spoken: Spoken = "as trained"
    ) -> Reply:
        """Start an answer. LabError if the variant cannot run or there is nothing to answer."""
        entry = self.entry(variant)
        if not entry.runs:
            raise LabError(f"{variant} cannot run: it is {entry.state} ({entry.why}).")
        seat = Seat(entry.variant.runtime, entry.model, entry.adapter)
        return self._engines.reply(seat, messages, sampling, _manner(entry, spoken))

    def worker_pid(self, variant: str) -> int | None:
        """The process that runs this variant, if one does."""
        entry = self.entry(variant)
        return self._engines.engine(Seat(entry.variant.runtime, entry.model, entry.adapter)).pid

    def keep(self, vote: Judgement) -> None:
        """Append a judgement; LabError if it cannot be written."""
        try:
            judgement.keep(self._votes, vote)
        except OSError as error:
            raise LabError(
                f"Your vote could not be saved ({error.strerror}). Look after the disk or the folder "
                f"{self.settings.lab_runs}, and vote again."
            ) from error

    def judgements(self) -> list[Judgement]:
        return judgement.kept(self._votes)

    def wins(self) -> list[Record]:
        """What each variant won and lost, from every vote kept."""
        return judgement.wins(self.judgements())


def _manner(entry: Entry, spoken: Spoken) -> Manner:
    """How to speak to it: the way it was trained, unless the other way is asked for on purpose."""
    name = entry.variant.template
    if name == "own" or spoken == "as its file says":
        return Manner()
    if name not in templates():
        raise LabError(
            f"{entry.variant.id} was trained with the template {name!r}, which is not in models/templates.toml. "
            "Add it there, or talk to it as its file says."
        )
    return Manner(name, templates()[name].source, templates()[name].stops)
