"""The settings of an evaluation, each with its bounds, title and description."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backend.data.dataset import DatasetSpec
from backend.inference.sampling import Sampling
from backend.jobs.events import Number
from backend.judge.rubric import rubrics

Kind = Literal["rule", "endpoint", "variant", "given"]
GREEDY = Sampling(temperature=0, seed=1, max_tokens=512)


class JudgeOptions(BaseModel):
    """Settings of every judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeats: int = Field(
        1, ge=1, le=5, title="Judgements of each answer", description="Their mean counts. More rows tell more for less."
    )
    reference: bool = Field(
        True, title="Show the reference", description="Off: whether a fine-tune wins by sounding like its data."
    )
    together: int = Field(
        0, ge=0, le=32, title="Asked at once", description="0: many at an address, one at an address near by."
    )
    cap_run: float = Field(1.0, ge=0, le=1000, title="Limit of this run, $", description="It stops before that.")


class JudgeRequest(JudgeOptions):
    """The judge, and its settings."""

    kind: Kind = "rule"
    rubric: str = "overlap"
    model: str = ""
    """A model of the address, or the id of a variant."""
    address: str = ""
    """Normalised by `judge_address`. Empty unless `kind` is "endpoint"."""
    free: bool = False
    """The owner says that the address costs nothing."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.rubric not in rubrics() and self.kind != "given":
            raise ValueError(f"there is no rubric {self.rubric!r}; there are {', '.join(rubrics())}")
        if self.kind in ("endpoint", "variant") and not self.model:
            raise ValueError("a judge that is a model needs the model's name")
        return self


class EvaluateOptions(BaseModel):
    """Settings of an evaluation that the form shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: bool = Field(
        True, title="Check the judge first", description="On 24 texts of known worth; once for each judge and rubric."
    )
    rejudged: int = Field(
        5, ge=0, le=50, title="Answers judged once more", description="To see how steady the judge is."
    )
    system: str = Field(
        "", max_length=20_000, title="System prompt of the evaluation", description="For rows without one of their own."
    )


class EvaluateRequest(EvaluateOptions):
    """The request that is stored in the run. Rows come from `data`, or from the file `given` with their answers."""

    name: str = Field(min_length=1, max_length=100)
    way: Literal["score", "winner"] = "score"
    data: DatasetSpec | None = None
    part: Literal["held", "train"] = "held"
    """The split of `data`: "held" is the eval split."""
    given: str = ""
    """The absolute path of a file of imported answers, one `ImportedAnswer` per line."""
    variants: tuple[str, ...] = Field(min_length=1)
    baselines: dict[str, str] = Field(default_factory=dict)
    contrasts: tuple[tuple[str, str], ...] = ()
    sampling: Sampling = GREEDY
    judge: JudgeRequest = JudgeRequest()
    low: Number = 1.0
    high: Number = 5.0
    """The scale of imported scores."""
    runs: str
    """The absolute folder of all runs. It also holds the ledger and the checks of judges."""
    weights: str
    cap_day: float = Field(5.0, ge=0, le=1e9, allow_inf_nan=False)
    context: int = Field(4096, ge=256, le=10**9)
    slots: int = Field(64, ge=1, le=64)
    """Most answers of a variant that are generated together; fewer where memory is short."""
    threads: int = Field(2, ge=1, le=10**6)

    @model_validator(mode="after")
    def _rows(self) -> Self:
        if (self.data is None) == (not self.given):
            raise ValueError("an evaluation has rows or imported answers, not both")
        if self.low >= self.high:
            raise ValueError("the end of a scale must be above its start")
        return self
