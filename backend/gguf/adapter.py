"""Writes a PEFT LoRA folder as a GGUF adapter, and refuses adapters that llama.cpp would apply differently."""

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from backend.core import files
from backend.core.errors import LabError, shown
from backend.gguf import llama
from backend.gguf.llama import LINEARS, Shape
from backend.gguf.model import add_tensor_info, write_header
from backend.gguf.tensors import Tensor, Update, converted, load_json, tensors_in, to_float

PREFIX = "base_model.model."
# Settings of PEFT that a GGUF adapter cannot represent, with the text for the error.
REFUSED = {
    "use_dora": "uses DoRA",
    "alora_invocation_tokens": "is an activated LoRA (aLoRA), which counts only after its invocation tokens",
    "use_qalora": "uses QALoRA",
    "use_bdlora": "uses BD-LoRA",
    "kasa_config": "uses KaSA",
    "monteclora_config": "uses MonteCLoRA",
    "arrow_config": "is routed with Arrow",
    "modules_to_save": "also trained full modules",
    "alpha_pattern": "has a different alpha per layer",
    "lora_bias": "has its own biases",
    "layer_replication": "repeats layers",
    "trainable_token_indices": "also trained tokens",
    "target_parameters": "trained parameters other than linear layers",
}
# Settings that do not change what a trained adapter computes.
KNOWN = frozenset(
    ("r", "lora_alpha", "use_rslora", "rank_pattern", "bias", "init_lora_weights", "peft_type", "task_type")
    + ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "fan_in_fan_out")
    + ("base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version", "runtime_config")
    + ("megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config")
    + ("velora_config", "qalora_group_size", "ensure_weight_tying", "merge_weights")
)
MERGE = "a GGUF adapter cannot represent. Merge it into its base and convert the merged model instead."
TRAIN = "cannot be merged here. Train again without it."
CHANGED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")  # these change the base before training


def check(settings: dict[str, Any], instead: str = MERGE) -> None:
    """Raise LabError, which ends with `instead`, for settings that cannot be represented."""
    reasons = [reason for key, reason in REFUSED.items() if settings.get(key)]
    if settings.get("peft_type") != "LORA":
        reasons.append(f"is a {settings.get('peft_type')} adapter, not a LoRA")
    if settings.get("bias", "none") != "none":
        reasons.append("also trained biases")
    if str(settings.get("init_lora_weights")).lower().startswith(CHANGED_BASE):
        reasons.append("started from a changed base")
    if settings.get("use_rslora") and settings.get("rank_pattern"):
        reasons.append("is rank-stabilised with several ranks")
    unknown = [key for key, value in settings.items() if value and key not in KNOWN and key not in REFUSED]
    reasons += [f"has the setting {shown(str(key))}, which this app does not know" for key in unknown[:3]]
    if reasons:
        raise LabError(f"This adapter {' and '.join(reasons)}, which {instead}")


def alpha_of(settings: dict[str, Any]) -> float:
    """The alpha for llama.cpp, which scales by alpha / r. Rank-stabilised LoRA: alpha * sqrt(r)."""
    alpha = float(settings["lora_alpha"])
    return alpha * math.sqrt(settings["r"]) if settings.get("use_rslora") else alpha


def split_name(name: str) -> tuple[str, str, str]:
    """Split the name of a PEFT tensor into GGUF name, layer and matrix: (`blk.0.attn_q.weight`, `attn_q`, `A`)."""
    stem, mark, side = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
    names = llama.gguf_name(stem)
    if not mark or side not in ("A", "B") or names is None or names[1] not in LINEARS.values():
        raise LabError(
            f"{name} is not part of a LoRA of the linear layers of a Llama, which a GGUF adapter cannot represent. "
            "Merge the adapter into its base and convert the merged model instead."
        )
    return f"{names[0]}.weight", names[1], side


def pairs_of(tensors: dict[str, Tensor], blocks: int) -> dict[str, tuple[str, Tensor, Tensor]]:
    """Pair the matrices: GGUF name -> (layer, A, B). Raises LabError if one of a pair is missing."""
    sides: dict[str, dict[str, Tensor]] = {}
    layers: dict[str, str] = {}
    for name, tensor in tensors.items():
        target, layer, side = split_name(name)
        sides.setdefault(target, {})[side] = tensor
        layers[target] = layer
    if not sides or any(len(both) < 2 for both in sides.values()):
        raise LabError("The file of the adapter is empty, or an A or B matrix is missing. Save or download it again.")
    if max(int(name.split(".")[1]) for name in sides) >= blocks:
        raise LabError(
            "The adapter has more layers than its base, so it was trained on another model. Choose that model."
        )
    return {name: (layers[name], both["A"], both["B"]) for name, both in sides.items()}


def layer_sizes(layer: str, shape: Shape) -> tuple[int, int]:
    """Input and output size of a linear layer."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    return {
        "attn_q": (shape.width, queries), "attn_k": (shape.width, keys), "attn_v": (shape.width, keys),
        "attn_output": (queries, shape.width), "ffn_gate": (shape.width, shape.inner),
        "ffn_up": (shape.width, shape.inner), "ffn_down": (shape.inner, shape.width),
    }[layer]  # fmt: skip


def check_fit(pairs: dict[str, tuple[str, Tensor, Tensor]], shape: Shape) -> None:
    """Raise LabError unless the matrices have the sizes of the base."""
    for name, (layer, a, b) in pairs.items():
        if (a.shape[1], b.shape[0]) != layer_sizes(layer, shape) or a.shape[0] != b.shape[1]:
            raise LabError(
                f"The adapter does not fit its base: {name} has another size. Choose the base it was trained on."
            )


def check_numbers(pairs: dict[str, tuple[str, Tensor, Tensor]]) -> None:
    """Raise LabError if a matrix has infinite or NaN values."""
    for name, (_, *sides) in pairs.items():
        if not all(np.isfinite(to_float(side.read())).all() for side in sides):
            raise LabError(
                f"The adapter has infinite or NaN values ({name}), so its training diverged. "
                "Train again with a lower learning rate."
            )


def base_folder(settings: dict[str, Any], base: Path | None) -> Path:
    """The folder of the base: `base`, or the folder in the settings. Raises LabError if it has no config.json."""
    folder = base or Path(settings.get("base_model_name_or_path") or "")
    if not (folder / "config.json").is_file():
        raise LabError(
            f"The base of this adapter ({settings.get('base_model_name_or_path')}) is not on this "
            "machine, and its config.json is needed. Add the folder of the base with --base."
        )
    return folder


def write_adapter(folder: Path, out: Path, kind: str, name: str, base: Path | None, base_name: str | None) -> None:
    """Write the adapter for a base that is a Hugging Face folder. Raises LabError if it cannot be written."""
    settings = load_json(folder / "adapter_config.json")
    check(settings)
    base = base_folder(settings, base)
    write_adapter_for(llama.shape_of(base), folder, out, kind, name, base_name or base.name)


def read_matrices(
    folder: Path, shape: Shape, instead: str
) -> tuple[dict[str, Any], dict[str, tuple[str, Tensor, Tensor]]]:
    """Read the settings and the pairs of matrices. Raises LabError unless they fit a base of that shape."""
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
    """The update of each weight, by GGUF name, for a base of that shape."""
    settings, pairs = read_matrices(folder, shape, TRAIN)
    alpha, stabilised = float(settings["lora_alpha"]), bool(settings.get("use_rslora"))
    updates = {}
    for name, (_, a, b) in pairs.items():
        rank = a.shape[0]
        scale = alpha / (math.sqrt(rank) if stabilised else rank)
        updates[name] = Update(to_float(a.read()), to_float(b.read()), scale)
    return updates


def write_adapter_for(shape: Shape, folder: Path, out: Path, kind: str, name: str, base_name: str) -> None:
    """Write the adapter for a base of that shape. `base_name` is stored in the header."""
    settings, pairs = read_matrices(folder, shape, MERGE)
    with files.complete_file(out) as part:
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha_of(settings))
        writer.add_name(name)
        add_base_info(writer, base_name, shape)
        write_matrices(writer, pairs, shape, kind)


def add_base_info(writer: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    """Add name and shape of the base to the header, by which another base is detected."""
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name)
    writer.add_block_count(shape.blocks)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    if shape.vocabulary:
        writer.add_vocab_size(shape.vocabulary)


def write_matrices(
    writer: gguf.GGUFWriter, pairs: dict[str, tuple[str, Tensor, Tensor]], shape: Shape, kind: str
) -> None:
    """Write all matrices: A unchanged, B in the row order of the base's matrix."""
    try:
        for name, (_, a, b) in pairs.items():
            add_tensor_info(writer, f"{name}.lora_a", a.shape, kind)
            add_tensor_info(writer, f"{name}.lora_b", b.shape, kind)
        write_header(writer)
        for layer, a, b in pairs.values():
            writer.write_tensor_data(converted(a, kind, llama.as_is))
            writer.write_tensor_data(converted(b, kind, llama.order_for(layer, shape)))
    finally:
        writer.close()
