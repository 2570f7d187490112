"""What a judge costs, and when it goes away. The figures are data: prices.toml."""

import re
import tomllib
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.errors import LabError, shown
from backend.judge.remote.address import OPENAI, host, is_near

MILLION = 1_000_000


class Price(BaseModel):
    """Dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Dollars."""
        return (tokens_in * self.input + tokens_out * self.output) / MILLION


FREE = Price(input=0, output=0)


class Sold(BaseModel):
    """An entry of prices.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    address: str = OPENAI
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    retires: date | None = None
    replacement: str = ""


def price(model: str, address: str) -> Price | None:
    """None when nobody wrote it down; another address may sell a model of the same name at another price."""
    if is_near(address):
        return FREE
    found = [one for one in _named(model) if host(one.address) == host(address)]
    return Price(input=found[0].input, output=found[0].output) if found else None


def known_price(model: str, address: str) -> Price:
    """The price; LabError when there is none, since no limit on spending could be kept then."""
    found = price(model, address)
    if found is None:
        raise LabError(
            f"No price is known for {shown(model)} at {shown(host(address))}, so a limit on spending cannot be kept. "
            "Add it to backend/judge/remote/prices.toml, or choose another judge."
        )
    return found


def retirement(model: str, today: date) -> str:
    """A sentence when the model goes away or has gone; empty when nothing of the kind is known."""
    found = next((one for one in _named(model) if one.retires), None)
    if found is None or found.retires is None:
        return ""
    instead = f" Its replacement is {found.replacement}." if found.replacement else ""
    apart = " Scores of two judges do not belong in one table, so begin a new comparison with it."
    when = f"{found.retires.day} {found.retires:%B %Y}"
    days = (found.retires - today).days
    if days <= 0:
        return f"{model} left OpenAI's API on {when}, as far as is known.{instead}{apart}"
    return f"{model} leaves OpenAI's API on {when}, in {days} day{'s' * (days != 1)}.{instead}{apart}"


def _named(model: str) -> list[Sold]:
    """Entries for it, its own name before that of which it is a snapshot."""
    exact = [one for one in _sold() if one.name == model]
    dated = [one for one in _sold() if re.fullmatch(re.escape(one.name) + r"-\d{4}-\d{2}-\d{2}", model)]
    return exact + dated


@lru_cache(maxsize=1)
def _sold() -> tuple[Sold, ...]:
    text = Path(__file__).with_name("prices.toml").read_text(encoding="utf-8")
    return tuple(Sold.model_validate(record) for record in tomllib.loads(text)["model"])
