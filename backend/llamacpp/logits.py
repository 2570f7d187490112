"""python -m backend.llamacpp.logits MODEL TOKENS.npy OUT.npy [--adapter FILE] [--first N] [--threads N]

What a GGUF model expects after each of these tokens from the Nth on, as float32: loaded as the app will load it, and
computed as exactly as llama.cpp can. Ends with 0, or with 1 and a sentence. llama.cpp may end the process instead.
"""

import argparse
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

from backend.core import files, machine
from backend.core.errors import LabError
from backend.gguf.tensors import Array

CHUNK = 128  # tokens computed at a time
ERROR = 4  # ggml's level


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def errors_only(level: int, text: bytes, data: Any) -> None:
    if level == ERROR:
        print(text.decode("utf-8", "replace"), end="", file=sys.stderr, flush=True)


def loaded(path: Path) -> Any:
    params = llama.llama_model_default_params()
    params.use_extra_bufts = False
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise LabError(f"llama.cpp cannot load {path.name}: it is damaged or not a model.")
    return model


def context_of(model: Any, adapter: Path | None, size: int, threads: int) -> Any:
    """Keys and values in float32 and no flash attention: nothing is rounded that need not be."""
    params = llama.llama_context_default_params()
    params.n_ctx = max(256, size)
    params.n_batch = params.n_ubatch = params.n_outputs_max = CHUNK
    params.n_threads = params.n_threads_batch = threads
    params.type_k = params.type_v = llama.GGML_TYPE_F32
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise LabError("There is not enough memory to compute with this model. Close what you can, then try again.")
    if adapter:
        lora = llama.llama_adapter_lora_init(model, os.fsencode(adapter))
        one = (llama.llama_adapter_lora_p_ctypes * 1)(lora)
        if not lora or llama.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1.0)):
            raise LabError(f"{adapter.name} does not fit the model it should run over.")
    return context


def logits(model: Any, context: Any, tokens: list[int], first: int) -> Array:
    """One row per token from `first` on."""
    width = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    if any(not 0 <= token < width for token in tokens):
        raise LabError(f"The model has {width} tokens, and the text has others: they do not belong together.")
    rows: Array = np.empty((len(tokens) - first, width), np.float32)
    batch = llama.llama_batch_init(CHUNK, 0, 1)
    for start in range(0, len(tokens), CHUNK):
        some = tokens[start : start + CHUNK]
        batch.n_tokens = len(some)
        for i, token in enumerate(some):
            batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, start + i >= first
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if llama.llama_decode(context, batch):
            raise LabError("llama.cpp cannot compute with these weights.")
        for i in range(max(0, first - start), len(some)):
            row = llama.llama_get_logits_ith(context, i)
            rows[start + i - first] = np.ctypeslib.as_array(row, (width,))
    llama.llama_batch_free(batch)
    return rows


def main() -> int:
    """Compute, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=machine.threads())
    options = parser.parse_args()
    llama.llama_log_set(errors_only, ctypes.c_void_p(0))
    llama.llama_backend_init()
    tokens = np.load(options.tokens, allow_pickle=False).tolist()
    try:
        model = loaded(options.model)
        context = context_of(model, options.adapter, len(tokens), options.threads)
        np.save(options.out, logits(model, context, tokens, options.first))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.out.name} could not be written: {error.strerror or files.PARTLY}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
