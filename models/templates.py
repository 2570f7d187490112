"""The prompt templates of templates.toml, by name."""

import tomllib
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Template(BaseModel):
    """A chat template: it converts a conversation to a prompt. Generation ends at one of the `stops`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    source: str
    """Jinja."""
    stops: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def templates() -> dict[str, Template]:
    """Name -> template, from templates.toml."""
    text = (Path(__file__).parent / "templates.toml").read_text(encoding="utf-8")
    return {name: Template.model_validate(record) for name, record in tomllib.loads(text).items()}
