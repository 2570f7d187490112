"""The lab: everything the screen, the tests and the benches ask for, behind one door."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.core.settings import Settings
from backend.evaluation.evaluations import Evaluations
from backend.inference import placement
from backend.inference.engine import LoadedModel
from backend.inference.engines import Engines
from backend.inference.placement import FormatChoice, ModelSpec
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from backend.judge import votes
from backend.judge.votes import Vote, WinRecord
from backend.library.describe import VariantDetails, describe
from backend.library.library import Library
from backend.training.training import Training
from models.catalogue import Entry


class Lab:
    """Holds the running engines; all else is read from disk when it is asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._engines = Engines(settings, lambda file, how: self.library.record_crash(file, how))
        self.library = Library(settings, self._engines)
        self.training = Training(settings, self.library.memory_free)
        self.evaluations = Evaluations(settings)
        self._contexts: dict[str, int] = {}
        self._votes = settings.lab_runs / votes.FILE

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
        return self.library.entries()

    def entry(self, variant: str) -> Entry:
        """LabError if there is no such variant."""
        return self.library.entry(variant)

    def reply(
        self,
        variant: str,
        messages: Sequence[Message],
        sampling: Sampling,
        spoken: FormatChoice = "as trained",
        visitor: tuple[str, str] = ("", ""),
    ) -> Reply:
        """Start an answer. LabError if the variant cannot run or there is nothing to answer.

        `visitor`: address and session of a visitor, who gets a fair share of the line; empty for the owner.
        """
        entry = self.entry(variant)
        return self._engines.reply(
            self._seat(entry), messages, sampling, placement.prompt_format(entry, spoken), visitor
        )

    def worker_pid(self, variant: str) -> int | None:
        """The process that runs this variant, if one does."""
        return self._engines.engine(self._seat(self.entry(variant))).pid

    def _seat(self, entry: Entry) -> ModelSpec:
        return placement.model_spec(entry, self.context(entry))

    def context(self, entry: Entry) -> int:
        """Tokens of context each conversation with it has: of its base, because they share one worker."""
        return self._contexts.get(entry.variant.over or entry.variant.id, self.settings.lab_context)

    def choose_context(self, variant: str, tokens: int) -> None:
        """Another context for this variant and those over the same weights, until the app ends. LabError if it makes
        no sense."""
        if not 256 <= tokens <= 131072:
            raise LabError(f"A context of {tokens:,} tokens makes no sense. Choose 256 to 131,072.")
        entry = self.entry(variant)
        self._contexts[entry.variant.over or entry.variant.id] = tokens

    def describe(self, variant: str) -> VariantDetails:
        """All that is known of it. LabError if there is none of that name."""
        entries = self.entries()
        entry = next((entry for entry in entries if entry.variant.id == variant), None) or self.entry(variant)
        return describe(entry, entries, self.context(entry), self.settings.lab_slots)

    def loaded(self) -> list[LoadedModel]:
        """The models in memory, the least used first."""
        return self._engines.loaded()

    def unload(self, pid: int) -> None:
        """Unload a model. Replies that it is generating fail with a sentence."""
        self._engines.unload(pid)

    def save_vote(self, vote: Vote) -> None:
        """Append a judgement; LabError if it cannot be written."""
        try:
            votes.append_vote(self._votes, vote)
        except OSError as error:
            raise LabError(
                f"Your vote could not be saved ({error.strerror}). Free space or allow writing in "
                f"{self.settings.lab_runs.name}/, and vote again."
            ) from error

    def votes(self) -> list[Vote]:
        return votes.read_votes(self._votes)

    def wins(self) -> list[WinRecord]:
        """What each variant won and lost, from every vote kept."""
        return votes.wins(self.votes())
