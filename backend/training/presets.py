"""Presets of training settings (presets.toml), and the differences between settings and a preset."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from backend.training.request import TrainSettings


class Preset(BaseModel):
    """Training settings, and a sentence about them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    spec: TrainSettings


@lru_cache(maxsize=1)
def presets() -> dict[str, Preset]:
    """The presets by name, in the order of the file."""
    text = (Path(__file__).parent / "presets.toml").read_text(encoding="utf-8")
    records = tomllib.loads(text)
    return {name: _preset(**_with_inherited(name, records)) for name in records}


def _with_inherited(name: str, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    record = records[name]
    inherited = _with_inherited(record["like"], records) if "like" in record else {}
    return inherited | {key: value for key, value in record.items() if key != "like"}


def _preset(about: str, **settings: Any) -> Preset:
    return Preset(about=about, spec=TrainSettings.model_validate(settings))


def without_foreign_numbers(settings: TrainSettings) -> TrainSettings:
    """The settings with all rows of their file, if they have the row numbers of a preset, which are of its dataset."""
    if not settings.data.source.startswith("/"):
        return settings
    if _numbers(settings) not in {_numbers(preset.spec) for preset in presets().values()}:
        return settings
    return settings.model_copy(update={"data": settings.data.model_copy(update={"splits": "all"})})


def _numbers(settings: TrainSettings) -> tuple[str, int, int, int, int]:
    data = settings.data
    return data.splits, data.first, data.rows, data.held_first, data.held_rows


def changes(spec: TrainSettings, preset: TrainSettings) -> list[tuple[str, Any, Any]]:
    """(title, value in `spec`, value in `preset`) of every setting that differs, also of the dataset."""
    differences = []
    for ours, theirs in ((spec, preset), (spec.data, preset.data)):
        for name, field in type(ours).model_fields.items():
            value, preset_value = getattr(ours, name), getattr(theirs, name)
            if name != "data" and value != preset_value:
                differences.append((field.title or name, value, preset_value))
    return differences
