"""A form drawn from a pydantic class, and read back: the class says bounds, title and sentence once."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import gradio as gr
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from backend.core.errors import LabError

Model = TypeVar("Model", bound=BaseModel)
WIDE = 10_000  # a range that no slider can be set on
FINE = 0.01  # a slider's step


def draw(
    model: type[BaseModel], suffix: str = "", choices: dict[str, Sequence[str]] | None = None
) -> list[gr.components.Component]:
    """One control per field that is no form itself, in order. `suffix` keeps labels unique when a page holds the form
    twice; `choices` are the values of fields whose class cannot list them."""
    listed = choices or {}
    return [_control(model.model_fields[name], suffix, listed.get(name)) for name in drawn(model)]


def drawn(model: type[BaseModel]) -> list[str]:
    """Names of the fields that have a control."""
    return [name for name, field in model.model_fields.items() if not _is_form(field)]


def parse(model: type[Model], values: Sequence[Any], **given: Any) -> Model:
    """The controls' values as a checked value, with what is `given` for the rest; LabError with the first thing that is
    wrong."""
    named = {name: value for name, value in zip(drawn(model), values, strict=True) if value is not None}
    try:
        return model.model_validate(named | given)
    except ValidationError as error:
        raise LabError(_sentence(model, error.errors()[0])) from None


def _sentence(model: type[BaseModel], first: Any) -> str:
    said = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return f"{said}."
    name = str(first["loc"][0])
    field = model.model_fields.get(name)
    title = field.title if field and field.title else name
    if first["type"] == "string_pattern_mismatch":
        said = "use letters, digits, dots, underscores and dashes, without spaces"
    if first["type"] == "missing":
        return f"{title} is empty. Fill it in."
    return f"{title} cannot be {str(first['input'])[:50]!r}: {said[:1].lower()}{said[1:]}."


def _is_form(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _control(field: FieldInfo, suffix: str, listed: Sequence[str] | None) -> gr.components.Component:
    label, value = f"{field.title}{suffix}", None if field.is_required() else field.default
    said = {"label": label, "info": field.description}
    if field.annotation is bool:
        return gr.Checkbox(value=bool(value), **said)
    if listed or get_origin(field.annotation) is Literal:
        return gr.Dropdown(list(listed or get_args(field.annotation)), value=value, interactive=True, **said)
    if field.annotation is str:
        return gr.Textbox(value=value, lines=1 if _limit(field) <= 1000 else 2, **said)
    low, high = _bounds(field)
    whole = field.annotation is int
    if high - low > WIDE or (not whole and value and value < FINE):
        return gr.Number(value=value, minimum=low if whole else 0, maximum=high, precision=0 if whole else None, **said)
    return gr.Slider(low, high, value=value, step=1 if whole else FINE, **said)


def _limit(field: FieldInfo) -> int:
    """Characters a text may have; a pattern is of short ones."""
    return next((rule.max_length for rule in field.metadata if hasattr(rule, "max_length")), _of_pattern(field))


def _of_pattern(field: FieldInfo) -> int:
    return 200 if any(getattr(rule, "pattern", None) for rule in field.metadata) else WIDE


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low = next((getattr(rule, name) for rule in field.metadata for name in ("ge", "gt") if hasattr(rule, name)), 0)
    high = next(rule.le for rule in field.metadata if hasattr(rule, "le"))
    return (low, high) if any(hasattr(rule, "ge") for rule in field.metadata) else (FINE, high)
