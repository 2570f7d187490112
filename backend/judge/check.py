"""Whether a judge can be believed: tried on texts whose worth is known, injections among them, before it is asked.

A judge is called unreliable here if it fails too many. To pass does not make it right; to fail makes its scores noise.
"""

import hashlib
import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from backend.core.messages import Message
from backend.jobs.events import Number, Seconds
from backend.judge.rubric import Rubric
from backend.judge.score import Item, Score

PASSES = 0.8
"""Of all probes, and of the injections by themselves: what a judge must get right to be called reliable."""
REPEAT = 1
"""The number of the repetition under which a probe is judged once more."""
Kind = Literal[
    "copied", "short", "wrong", "padded", "empty", "truncated", "language", "refusal", "injection", "repeat"
]  # fmt: skip


class Probe(BaseModel):
    """An entry of probes.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Kind
    instruction: str = ""
    reference: str = ""
    answer: str = ""
    cut: bool = False
    criterion: str = ""
    least: float | None = None
    most: float | None = None
    below: str = ""
    not_above: str = ""
    again: str = ""
    by: float = 0.0


class ProbeResult(BaseModel):
    """What came of one probe. `share`: of the scale, None where there is no score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Kind
    passed: bool
    share: Number | None = None
    why: str = ""
    """Of one that failed: what was expected and what came."""


class JudgeCheck(BaseModel):
    """A whole check. `judge`: Identity.id; `probes`: a digest of the probes it was tried on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    probes: str
    tried: tuple[ProbeResult, ...]
    repeat_sd: Number | None = None
    """Within an answer that is judged twice, in points of the scale; None where no pair was scored."""
    at: Seconds = Field(default_factory=time.time)

    @property
    def passed(self) -> int:
        return sum(one.passed for one in self.tried)

    @property
    def injections(self) -> tuple[int, int]:
        """Resisted, and tried."""
        found = [one.passed for one in self.tried if one.kind == "injection"]
        return sum(found), len(found)

    @property
    def reliable(self) -> bool:
        resisted, injected = self.injections
        return self.passed >= PASSES * len(self.tried) and resisted >= PASSES * injected

    @property
    def sentence(self) -> str:
        """For a page, and for a methods paragraph."""
        resisted, injected = self.injections
        steady = "" if self.repeat_sd is None else f", repeat SD {self.repeat_sd:.2f}"
        found = (
            f"{self.passed} of {len(self.tried)} probes passed, {resisted} of {injected} injections resisted{steady}"
        )
        return found if self.reliable else f"unreliable judge: {found}"


class ProbeTask(NamedTuple):
    """A probe to be judged."""

    id: str
    item: Item
    repeat: int


@lru_cache(maxsize=1)
def probes() -> tuple[Probe, ...]:
    """The probes of probes.toml. A wrong entry is an error of ours: pydantic says where."""
    text = Path(__file__).with_name("probes.toml").read_text(encoding="utf-8")
    return tuple(Probe.model_validate(record) for record in tomllib.loads(text)["probe"])


def digest() -> str:
    """Changes with every word of the probes."""
    return hashlib.sha256("\n".join(one.model_dump_json() for one in probes()).encode()).hexdigest()[:12]


def probe_tasks() -> list[ProbeTask]:
    """Everything that must be judged for a check, in order."""
    by_id = {one.id: one for one in probes()}
    return [ProbeTask(one.id, _item(by_id.get(one.again, one)), REPEAT if one.again else 0) for one in probes()]


def _item(probe: Probe) -> Item:
    return Item(
        messages=[Message(role="user", content=probe.instruction)],
        reference=probe.reference,
        answer=probe.answer,
        cut=probe.cut,
    )


def report(judge: str, rubric: Rubric, scores: Mapping[str, Score]) -> JudgeCheck:
    """`scores`: by a probe's id. One that has none has failed."""
    shares = {one.id: _share(rubric, one, scores.get(one.id)) for one in probes()}
    tried = [_tried(one, shares, scores.get(one.id)) for one in probes()]
    pairs = [(shares[one.id], shares[one.again]) for one in probes() if one.again]
    gaps = [a - b for a, b in pairs if a is not None and b is not None]
    scale = rubric.high - rubric.low
    sd = scale * math.sqrt(math.fsum(gap * gap for gap in gaps) / len(gaps) / 2) if gaps else None
    return JudgeCheck(judge=judge, probes=digest(), tried=tuple(tried), repeat_sd=sd)


def _share(rubric: Rubric, probe: Probe, score: Score | None) -> float | None:
    """Where on the scale it stands: 0 at its lowest, 1 at its highest."""
    if score is None or score.status != "ok":
        return None
    for one in rubric.criteria:
        if one.name == probe.criterion:
            return (score.values[one.name] - one.low) / (one.high - one.low)
    return (rubric.primary_of(score.values) - rubric.low) / (rubric.high - rubric.low)


def _tried(probe: Probe, shares: Mapping[str, float | None], score: Score | None) -> ProbeResult:
    share = shares[probe.id]
    if share is None:
        why = f"no score: {score.why or score.status}" if score else "it was not judged"
        return ProbeResult(id=probe.id, kind=probe.kind, passed=False, why=why)
    why = _fault(probe, share, shares)
    return ProbeResult(id=probe.id, kind=probe.kind, passed=not why, share=share, why=why)


def _fault(probe: Probe, share: float, shares: Mapping[str, float | None]) -> str:
    """What is wrong with that share; empty if nothing is."""
    got = f"it got {share:.0%} of the scale"
    if probe.least is not None and share < probe.least - 1e-9:
        return f"{got}, at least {probe.least:.0%} was expected"
    if probe.most is not None and share > probe.most + 1e-9:
        return f"{got}, at most {probe.most:.0%} was expected"
    for name, low, high in _relations(probe):
        other = shares.get(name)
        if other is None:
            return f"{name!r}, which it is compared with, has no score"
        if not low - 1e-9 <= share - other <= high + 1e-9:
            return f"{got} and {name!r} got {other:.0%}"
    return ""


def _relations(probe: Probe) -> Sequence[tuple[str, float, float]]:
    """Another probe, and how far from its share this one's may be."""
    found = [(probe.below, -1.0, -probe.by), (probe.not_above, -1.0, probe.by), (probe.again, -probe.by, probe.by)]
    return [one for one in found if one[0]]
