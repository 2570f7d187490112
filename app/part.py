"""A part of a tab that follows the disk."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """`view` gives a value for each of `outputs` as things are now; after each of `acted`, the page looks again."""

    outputs: list[Any]
    view: Callable[[], list[Any]]
    acted: list[Any] = field(default_factory=list)
