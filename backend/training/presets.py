"""The presets of presets.toml, by name, and how a spec differs from one."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from backend.training.request import TrainSettings


class Preset(BaseModel):
    """A spec with a sentence about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    spec: TrainSettings


@lru_cache(maxsize=1)
def presets() -> dict[str, Preset]:
    """In the order of the file."""
    text = (Path(__file__).parent / "presets.toml").read_text(encoding="utf-8")
    records = tomllib.loads(text)
    return {name: _preset(**_whole(name, records)) for name in records}


def _whole(name: str, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    record = records[name]
    older = _whole(record["like"], records) if "like" in record else {}
    return older | {key: value for key, value in record.items() if key != "like"}


def _preset(about: str, **settings: Any) -> Preset:
    return Preset(about=about, spec=TrainSettings.model_validate(settings))


def changes(spec: TrainSettings, preset: TrainSettings) -> list[tuple[str, Any, Any]]:
    """(title, value here, the preset's value) of every setting that differs, the data's too."""
    differences = []
    for mine, other in ((spec, preset), (spec.data, preset.data)):
        for name, field in type(mine).model_fields.items():
            here, there = getattr(mine, name), getattr(other, name)
            if name != "data" and here != there:
                differences.append((field.title or name, here, there))
    return differences
