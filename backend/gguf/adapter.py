"""A PEFT LoRA folder to a GGUF adapter, refusing whatever llama.cpp would apply differently."""

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from backend.core import files
from backend.core.errors import LabError
from backend.gguf import llama
from backend.gguf.llama import LINEARS, Shape
from backend.gguf.model import announce, begin
from backend.gguf.tensors import Tensor, Update, converted, load_json, tensors_in, to_float

PREFIX = "base_model.model."
# Settings that llama.cpp has no word for, and what to say about each.
REFUSED = {
    "use_dora": "uses DoRA",
    "modules_to_save": "also trained whole modules",
    "alpha_pattern": "has a different alpha per layer",
    "lora_bias": "has biases of its own",
    "layer_replication": "repeats layers",
    "trainable_token_indices": "also trained tokens",
    "target_parameters": "trained parameters other than linear layers",
}
MERGE = "a GGUF adapter cannot hold. Merge it into its base and convert the whole model instead."
TRAIN = "cannot be merged here. Train again without it."
SHIFTED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")  # they change the base before training


def check(settings: dict[str, Any], instead: str = MERGE) -> None:
    """Refuse with a sentence that ends with what to do `instead`."""
    reasons = [reason for key, reason in REFUSED.items() if settings.get(key)]
    if settings.get("peft_type") != "LORA":
        reasons.append(f"is a {settings.get('peft_type')} adapter, not a LoRA")
    if settings.get("bias", "none") != "none":
        reasons.append("also trained biases")
    if str(settings.get("init_lora_weights")).lower().startswith(SHIFTED_BASE):
        reasons.append("began from a changed base")
    if settings.get("use_rslora") and settings.get("rank_pattern"):
        reasons.append("is rank-stabilised with several ranks")
    if reasons:
        raise LabError(f"This adapter {' and '.join(reasons)}, which {instead}")


def alpha_of(settings: dict[str, Any]) -> float:
    """llama.cpp scales by alpha / r; rank-stabilised LoRA means alpha / sqrt(r), so alpha grows by sqrt(r)."""
    alpha = float(settings["lora_alpha"])
    return alpha * math.sqrt(settings["r"]) if settings.get("use_rslora") else alpha


def split_name(name: str) -> tuple[str, str, str]:
    """(`blk.0.attn_q.weight`, `attn_q`, `A`) from a PEFT tensor's name."""
    stem, mark, side = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
    found = llama.gguf_name(stem)
    if not mark or side not in ("A", "B") or found is None or found[1] not in LINEARS.values():
        raise LabError(
            f"{name} is not part of a LoRA over a Llama's linear layers, so a GGUF adapter cannot hold it. "
            "Merge the adapter into its base and convert the whole model instead."
        )
    return f"{found[0]}.weight", found[1], side


def pairs_of(tensors: dict[str, Tensor], blocks: int) -> dict[str, tuple[str, Tensor, Tensor]]:
    """GGUF name -> (short name, A, B); every A needs its B."""
    sides: dict[str, dict[str, Tensor]] = {}
    shorts: dict[str, str] = {}
    for name, tensor in tensors.items():
        target, short, side = split_name(name)
        sides.setdefault(target, {})[side] = tensor
        shorts[target] = short
    if not sides or any(len(both) < 2 for both in sides.values()):
        raise LabError("The adapter's file is empty or lacks halves of its matrices. Save or download it again.")
    if max(int(name.split(".")[1]) for name in sides) >= blocks:
        raise LabError("The adapter has more layers than its base: it was trained on another model. Choose that one.")
    return {name: (shorts[name], both["A"], both["B"]) for name, both in sides.items()}


def sizes_of(short: str, shape: Shape) -> tuple[int, int]:
    """How many values a linear layer takes and gives."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    return {
        "attn_q": (shape.width, queries), "attn_k": (shape.width, keys), "attn_v": (shape.width, keys),
        "attn_output": (queries, shape.width), "ffn_gate": (shape.width, shape.inner),
        "ffn_up": (shape.width, shape.inner), "ffn_down": (shape.inner, shape.width),
    }[short]  # fmt: skip


def check_fit(pairs: dict[str, tuple[str, Tensor, Tensor]], shape: Shape) -> None:
    """Refuse an adapter whose matrices are not the base's size."""
    for name, (short, a, b) in pairs.items():
        if (a.shape[1], b.shape[0]) != sizes_of(short, shape) or a.shape[0] != b.shape[1]:
            raise LabError(f"The adapter does not fit its base: {name} has another size. Choose the base it came from.")


def check_numbers(pairs: dict[str, tuple[str, Tensor, Tensor]]) -> None:
    """Refuse an adapter whose training broke down."""
    for name, (_, *sides) in pairs.items():
        if not all(np.isfinite(to_float(side.read())).all() for side in sides):
            raise LabError(
                f"The adapter holds what is no number ({name}): its training broke down. "
                "Train again with a lower learning rate."
            )


def base_of(settings: dict[str, Any], base: Path | None) -> Path:
    """The folder of the base: the one named, or the one the adapter remembers if it is here."""
    found = base or Path(settings.get("base_model_name_or_path") or "")
    if not (found / "config.json").is_file():
        raise LabError(
            f"The base of this adapter ({settings.get('base_model_name_or_path')}) is not here, and its "
            "config.json is needed. Name the base's folder with --base."
        )
    return found


def write_adapter(folder: Path, out: Path, kind: str, name: str, base: Path | None, base_name: str | None) -> None:
    """Write the adapter, and which base it is for: a folder."""
    settings = load_json(folder / "adapter_config.json")
    check(settings)
    base = base_of(settings, base)
    write_over(llama.shape_of(base), folder, out, kind, name, base_name or base.name)


def matrices(folder: Path, shape: Shape, instead: str) -> tuple[dict[str, Any], dict[str, tuple[str, Tensor, Tensor]]]:
    """The adapter's settings, and its pairs. LabError unless they fit a base of that shape."""
    settings = load_json(folder / "adapter_config.json")
    check(settings, instead)
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise LabError(f"{folder.name} has no adapter_model.safetensors. Save the adapter as safetensors first.")
    pairs = pairs_of(tensors_in(file), shape.blocks)
    check_fit(pairs, shape)
    check_numbers(pairs)
    return settings, pairs


def updates_of(folder: Path, shape: Shape) -> dict[str, Update]:
    """What the adapter adds to each weight of a base of that shape, by GGUF name."""
    settings, pairs = matrices(folder, shape, TRAIN)
    alpha, stabilised = float(settings["lora_alpha"]), bool(settings.get("use_rslora"))
    found = {}
    for name, (_, a, b) in pairs.items():
        rank = a.shape[0]
        scale = alpha / (math.sqrt(rank) if stabilised else rank)
        found[name] = Update(to_float(a.read()), to_float(b.read()), scale)
    return found


def write_over(shape: Shape, folder: Path, out: Path, kind: str, name: str, base_name: str) -> None:
    """Write the adapter for a base of that shape."""
    settings, pairs = matrices(folder, shape, MERGE)
    with files.complete_file(out) as part:
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha_of(settings))
        writer.add_name(name)
        add_base_facts(writer, base_name, shape)
        pour(writer, pairs, shape, kind)


def add_base_facts(writer: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    """What tells another base apart by reading two headers."""
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name)
    writer.add_block_count(shape.blocks)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    if shape.vocabulary:
        writer.add_vocab_size(shape.vocabulary)


def pour(writer: gguf.GGUFWriter, pairs: dict[str, tuple[str, Tensor, Tensor]], shape: Shape, kind: str) -> None:
    """Write A as it is and B in the row order of the base's matrix."""
    try:
        for name, (_, a, b) in pairs.items():
            announce(writer, f"{name}.lora_a", a.shape, kind)
            announce(writer, f"{name}.lora_b", b.shape, kind)
        begin(writer)
        for short, a, b in pairs.values():
            writer.write_tensor_data(converted(a, kind, llama.as_is))
            writer.write_tensor_data(converted(b, kind, llama.order_for(short, shape)))
    finally:
        writer.close()
