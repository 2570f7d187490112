"""The prompt templates of templates.toml, by name."""

import tomllib
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Template(BaseModel):
    """A way of writing a conversation as one prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    source: str
    """Jinja."""
    stops: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def templates() -> dict[str, Template]:
    text = (Path(__file__).parent / "templates.toml").read_text(encoding="utf-8")
    return {name: Template.model_validate(record) for name, record in tomllib.loads(text).items()}
