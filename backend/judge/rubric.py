"""What is judged, and on which scale: the lab's rubric for models that judge, and the rule judge's measures."""

import hashlib
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

MEAN = "mean"


class Criterion(BaseModel):
    """One thing that is judged, from `low` to `high`. `anchors` say what each whole number means, the lowest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    about: str
    low: float
    high: float
    anchors: tuple[str, ...] = ()


class Rubric(BaseModel):
    """`primary` is the one number verdicts are about: a criterion's name, or `mean` of all. Declared before, never
    chosen after. `rules` go to a model that judges, as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    """What the primary number is called in a sentence."""
    primary: str = MEAN
    rules: str = ""
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @property
    def hash(self) -> str:
        """Changes with every word of it: 12 digits of a sha256."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def low(self) -> float:
        """The least the primary number can be."""
        return self._of({one.name: one.low for one in self.criteria})

    @property
    def high(self) -> float:
        """The most the primary number can be."""
        return self._of({one.name: one.high for one in self.criteria})

    def primary_of(self, values: Mapping[str, float]) -> float:
        """The primary number of an answer's values."""
        return self._of(values)

    def _of(self, values: Mapping[str, float]) -> float:
        names = [one.name for one in self.criteria] if self.primary == MEAN else [self.primary]
        return fmean(values[name] for name in names)


@lru_cache(maxsize=1)
def rubrics() -> dict[str, Rubric]:
    """The rubrics of rubrics.toml by id. A wrong entry is an error of ours: pydantic says where."""
    text = Path(__file__).with_name("rubrics.toml").read_text(encoding="utf-8")
    found = [Rubric.model_validate(record) for record in tomllib.loads(text)["rubric"]]
    return {one.id: one for one in found}
