"""What a judge costs, and when it goes away. The figures are data: prices.toml."""

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

    def of(self, tokens_in: int, tokens_out: int) -> float:
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
    """None when it is not known; another address may sell a model of the same name at another price.

    `free`: the owner says that the address costs nothing (JUDGE_FREE). A price in prices.toml still holds.
    """
    found = [one for one in _named(model) if host(one.address) == host(address)]
    if found:
        return Price(input=found[0].input, output=found[0].output)
    return FREE if free and not is_openai(address) else None


def known_price(model: str, address: str, free: bool = False) -> Price:
    """The price; LabError when there is none, since no limit on spending could be kept then."""
    found = price(model, address, free)
    if found is None:
        raise LabError(
            f"No price is known for {shown(model)} at {place(address)}, so a limit on spending cannot be kept. If "
            "that address is a server of your own that costs nothing, set JUDGE_FREE=1 in .env and start the app "
            "again. Otherwise add the price to backend/remote/prices.toml, or choose another “Judge”."
        )
    return found


def seller(address: str) -> str:
    """The host of an address, if prices.toml names it as one that sells; empty for others, which are private."""
    return host(address) if any(host(one.address) == host(address) for one in _sold()) else ""


def place(address: str) -> str:
    """What an address is called in texts that visitors see."""
    return seller(address) or "the judge's address"


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


def _named(model: str) -> list[PriceEntry]:
    """Entries for it, its own name before that of which it is a snapshot."""
    exact = [one for one in _sold() if one.name == model]
    dated = [one for one in _sold() if re.fullmatch(re.escape(one.name) + r"-\d{4}-\d{2}-\d{2}", model)]
    return exact + dated


@lru_cache(maxsize=1)
def _sold() -> tuple[PriceEntry, ...]:
    text = Path(__file__).with_name("prices.toml").read_text(encoding="utf-8")
    return tuple(PriceEntry.model_validate(record) for record in tomllib.loads(text)["model"])
