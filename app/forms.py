"""Makes forms from pydantic classes and reads them back. The class has the bounds, title and description of a field."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import gradio as gr
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from backend.core.errors import LabError

Model = TypeVar("Model", bound=BaseModel)
Controls = dict[str, gr.components.Component]
WIDE = 10_000  # a range too large for a slider
FINE = 0.01  # a slider's step


def draw(
    model: type[BaseModel], suffix: str = "", choices: Mapping[str, Sequence[str]] | None = None, prefix: str = ""
) -> Controls:
    """Make one control per field, by name, in order. Fields that are pydantic classes get no control.

    `suffix` is added to labels and `prefix` to names, to keep them unique if a page has a form twice. `choices` are
    the values of fields whose class cannot list them.
    """
    listed = choices or {}
    return {prefix + name: _control(model.model_fields[name], suffix, listed.get(name)) for name in names(model)}


def names(model: type[BaseModel]) -> list[str]:
    """The names of the fields that have a control."""
    return [name for name, field in model.model_fields.items() if not _is_form(field)]


def values_of(value: BaseModel, prefix: str = "") -> dict[str, Any]:
    """The values of the controls of a form, by name."""
    return {prefix + name: getattr(value, name) for name in names(type(value))}


def parse(model: type[Model], values: Mapping[str, Any], prefix: str = "", **more: Any) -> Model:
    """Validate the values of a form. `more` are the fields without a control; other entries of `values` are ignored.

    LabError with the title of the first field that is empty or invalid.
    """
    fields = {name: values[prefix + name] for name in names(model)}
    for name, value in fields.items():
        if value is None:
            if model.model_fields[name].annotation is not str:
                raise LabError(f"{_title(model, name)} is empty. Fill it in.")
            fields[name] = ""
    try:
        return model.model_validate(fields | more)
    except ValidationError as error:
        raise LabError(_sentence(model, error.errors()[0])) from None


def check_bounds_in_parse() -> None:
    """Turn off Gradio's own check of number fields, whose error does not name the field. `parse` checks them."""
    gr.Number.raise_if_out_of_bounds = staticmethod(lambda *_: None)


def number(value: float | None, title: str, low: int, high: int) -> int:
    """Validate a number field that belongs to no class. LabError as in `parse`."""
    if value is None:
        raise LabError(f"{title} is empty. Fill it in.")
    if not low <= value <= high or value != int(value):
        raise LabError(f"{title} must be a whole number from {low:,} to {high:,}; it is {value:g}.")
    return int(value)


def _title(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    return field.title if field and field.title else name


def _sentence(model: type[BaseModel], error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return f"{message}."
    name, value = str(error["loc"][0]), str(error["input"])[:50]
    title, field = _title(model, name), model.model_fields.get(name)
    if error["type"] == "missing":
        return f"{title} is empty. Fill it in."
    if field and field.annotation in (int, float):
        return f"{title} must be {_range(field)}; it is {value!r}."
    if error["type"] == "string_pattern_mismatch":
        message = "use letters, digits, dots, underscores and dashes, without spaces"
    return f"{title} cannot be {value!r}: {message[:1].lower()}{message[1:]}."


def _range(field: FieldInfo) -> str:
    """The bounds of a number in words."""
    rules: dict[str, Any] = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)
    }
    kind = "a whole number" if field.annotation is int else "a number"
    low = f"from {rules['ge']:,}" if "ge" in rules else f"above {rules['gt']:,}" if "gt" in rules else ""
    high = f"to {rules['le']:,}" if "le" in rules else f"below {rules['lt']:,}" if "lt" in rules else ""
    if "gt" in rules and "le" in rules:
        high = f"and at most {rules['le']:,}"
    return " ".join(part for part in (kind, low, high) if part)


def _is_form(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _control(field: FieldInfo, suffix: str, listed: Sequence[str] | None) -> gr.components.Component:
    label, value = f"{field.title}{suffix}", None if field.is_required() else field.default
    texts = {"label": label, "info": field.description}
    if field.annotation is bool:
        return gr.Checkbox(value=bool(value), **texts)
    if listed or get_origin(field.annotation) is Literal:
        return gr.Dropdown(list(listed or get_args(field.annotation)), value=value, interactive=True, **texts)
    if field.annotation is str:
        return gr.Textbox(value=value, lines=1 if _length_limit(field) <= 1000 else 2, **texts)
    low, high = _bounds(field)
    whole = field.annotation is int
    if high - low > WIDE or (not whole and value and value < FINE):
        precision = 0 if whole else None
        return gr.Number(value=value, minimum=low if whole else 0, maximum=high, precision=precision, **texts)
    return gr.Slider(low, high, value=value, step=1 if whole else FINE, **texts)


def _length_limit(field: FieldInfo) -> int:
    """The maximum number of characters of a text field; 200 if it has a pattern."""
    pattern = any(getattr(rule, "pattern", None) for rule in field.metadata)
    return next((rule.max_length for rule in field.metadata if hasattr(rule, "max_length")), 200 if pattern else WIDE)


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low = next((getattr(rule, name) for rule in field.metadata for name in ("ge", "gt") if hasattr(rule, name)), 0)
    high = next(rule.le for rule in field.metadata if hasattr(rule, "le"))
    return (low, high) if any(hasattr(rule, "ge") for rule in field.metadata) else (FINE, high)
