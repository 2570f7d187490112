"""Weights with a LoRA merged into them, read a block of rows at a time.

The arithmetic is that of PEFT's merge_and_unload: the update in float32, the sum rounded once to the type of the base.
Sums of many products may be added up in another order, so one value in some 100,000 differs by one step of bf16.
"""

from dataclasses import dataclass

import numpy as np

from backend.core.errors import LabError
from backend.gguf.tensors import BLOCK, STORED, Array, Tensor, to_float, to_type


@dataclass(frozen=True, eq=False)
class Update:
    """scale * b @ a, to be added to a weight. Both are float32."""

    a: Array
    b: Array
    scale: float


@dataclass(frozen=True, eq=False)
class Merged(Tensor):
    """A stored weight that reads as if the update were part of it."""

    update: Update

    def read(self) -> Array:
        stored = super().read()
        found: Array = np.empty(self.shape, STORED[self.dtype])
        a, b, scale = self.update.a, self.update.b, np.float32(self.update.scale)
        rows = max(1, BLOCK // self.shape[1])
        with np.errstate(over="ignore"):
            for i in range(0, self.shape[0], rows):
                total = to_float(stored[i : i + rows])
                total += (b[i : i + rows] @ a) * scale
                found[i : i + rows] = to_type(total, self.dtype)
        if self.dtype == "F16" and not np.isfinite(found).all():
            raise LabError("A merged weight does not fit into f16, the type of its base. Train from a bf16 base.")
        return found


def merged(tensor: Tensor, update: Update | None) -> Tensor:
    """The tensor as it is where there is no update."""
    if update is None:
        return tensor
    return Merged(tensor.file, tensor.dtype, tensor.shape, tensor.start, update)
