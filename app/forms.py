"""A form drawn from a pydantic class, and read back: the class says bounds, title and sentence once."""

from collections.abc import Sequence
from typing import Any, TypeVar

import gradio as gr
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from backend.errors import LabError

Model = TypeVar("Model", bound=BaseModel)


def draw(model: type[BaseModel], suffix: str = "") -> list[gr.components.Component]:
    """One control per field, in order. `suffix` keeps labels unique when a page holds the form twice."""
    return [_control(field, suffix) for field in model.model_fields.values()]


def parse(model: type[Model], values: Sequence[Any]) -> Model:
    """The controls' values as a checked value; LabError with the first thing that is wrong."""
    named = {name: value for name, value in zip(model.model_fields, values, strict=True) if value is not None}
    try:
        return model.model_validate(named)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        field = model.model_fields.get(name)
        title = field.title if field and field.title else name
        raise LabError(f"{title} cannot be {str(first['input'])[:50]!r}: {first['msg'].lower()}.") from None


def _control(field: FieldInfo, suffix: str) -> gr.components.Component:
    label = f"{field.title}{suffix}"
    if field.annotation is str:
        return gr.Textbox(value=field.default, label=label, info=field.description, lines=2)
    low, high = _bounds(field)
    if high - low > 100_000:
        return gr.Number(
            value=field.default, label=label, info=field.description, minimum=low, maximum=high, precision=0
        )
    step = 1 if field.annotation is int else 0.01
    return gr.Slider(low, high, value=field.default, step=step, label=label, info=field.description)


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low = next((getattr(rule, name) for rule in field.metadata for name in ("ge", "gt") if hasattr(rule, name)), 0)
    high = next(rule.le for rule in field.metadata if hasattr(rule, "le"))
    return (low, high) if any(hasattr(rule, "ge") for rule in field.metadata) else (0.01, high)
