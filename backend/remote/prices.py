"""What a judge model costs and when it retires. The figures are in prices.toml."""

import re
import tomllib
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.core.errors import LabError, shown
from backend.remote.address import OPENAI, host, is_openai

MILLION = 1_000_000


class Price(BaseModel):
    """Dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Dollars."""
        return (tokens_in * self.input + tokens_out * self.output) / MILLION


FREE = Price(input=0, output=0)


class PriceEntry(BaseModel):
    """An entry of prices.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    address: str = OPENAI
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    retires: date | None = None
    replacement: str = ""


def price(model: str, address: str, free: bool = False) -> Price | None:
    """The price of a model at an address; None if it is not known.

    `free`: the owner says that the address costs nothing (JUDGE_FREE). A price in prices.toml takes precedence.
    """
    entries = [entry for entry in _entries_for(model) if host(entry.address) == host(address)]
    if entries:
        return Price(input=entries[0].input, output=entries[0].output)
    return FREE if free and not is_openai(address) else None


def known_price(model: str, address: str, free: bool = False) -> Price:
    """The price. Raises LabError if none is known, because no spending limit could be enforced without it."""
    known = price(model, address, free)
    if known is None:
        raise LabError(
            f"No price is known for {shown(model)} at {public_name(address)}, so a spending limit cannot be enforced. "
            "If the address is your own server and costs nothing, set JUDGE_FREE=1 in .env and restart the app. "
            "Otherwise add the price to backend/remote/prices.toml, or choose another “Judge”."
        )
    return known


def vendor_host(address: str) -> str:
    """The host of an address if prices.toml lists it; empty for any other address, which is private."""
    return host(address) if any(host(entry.address) == host(address) for entry in _price_list()) else ""


def public_name(address: str) -> str:
    """The name of an address in texts that visitors see."""
    return vendor_host(address) or "the judge's address"


def retirement(model: str, today: date) -> str:
    """A sentence about when the model retires or has retired; empty if no date is known."""
    entry = next((entry for entry in _entries_for(model) if entry.retires), None)
    if entry is None or entry.retires is None:
        return ""
    instead = f" Its replacement is {entry.replacement}." if entry.replacement else ""
    apart = " Scores of two judges are not comparable, so start a new evaluation with it."
    when = f"{entry.retires.day} {entry.retires:%B %Y}"
    days = (entry.retires - today).days
    if days <= 0:
        return f"{model} was retired from OpenAI's API on {when}, according to prices.toml.{instead}{apart}"
    return f"{model} will be retired from OpenAI's API on {when}, in {days} day{'s' * (days != 1)}.{instead}{apart}"


def _entries_for(model: str) -> list[PriceEntry]:
    """Entries for a model: first those with its exact name, then those of which it is a dated snapshot."""
    exact = [entry for entry in _price_list() if entry.name == model]
    dated = [entry for entry in _price_list() if re.fullmatch(re.escape(entry.name) + r"-\d{4}-\d{2}-\d{2}", model)]
    return exact + dated


@lru_cache(maxsize=1)
def _price_list() -> tuple[PriceEntry, ...]:
    text = Path(__file__).with_name("prices.toml").read_text(encoding="utf-8")
    return tuple(PriceEntry.model_validate(record) for record in tomllib.loads(text)["model"])
