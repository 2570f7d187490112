"""Rubrics: the criteria, scales and rules for models that judge, and the measures of the rule judge."""

import hashlib
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

MEAN = "mean"


class Criterion(BaseModel):
    """A criterion with a scale from `low` to `high`. `anchors`: the meaning of each whole number, the lowest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    about: str
    low: float
    high: float
    anchors: tuple[str, ...] = ()


class Rubric(BaseModel):
    """Criteria, and the primary number that verdicts are about.

    `primary`: the name of a criterion, or "mean" of all; it is fixed before an evaluation. `rules`: sent to a model
    that judges, unchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    """The name of the primary number in a sentence."""
    primary: str = MEAN
    rules: str = ""
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @property
    def hash(self) -> str:
        """12 digits of a sha256 over the whole rubric."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def low(self) -> float:
        """The lowest possible primary number."""
        return self.primary_of({criterion.name: criterion.low for criterion in self.criteria})

    @property
    def high(self) -> float:
        """The highest possible primary number."""
        return self.primary_of({criterion.name: criterion.high for criterion in self.criteria})

    def primary_of(self, values: Mapping[str, float]) -> float:
        """The primary number of an answer. `values`: criterion -> value."""
        names = [criterion.name for criterion in self.criteria] if self.primary == MEAN else [self.primary]
        return fmean(values[name] for name in names)


@lru_cache(maxsize=1)
def rubrics() -> dict[str, Rubric]:
    """Id -> rubric, from rubrics.toml. Raises pydantic's ValidationError for a wrong entry."""
    text = Path(__file__).with_name("rubrics.toml").read_text(encoding="utf-8")
    loaded = [Rubric.model_validate(record) for record in tomllib.loads(text)["rubric"]]
    return {rubric.id: rubric for rubric in loaded}
