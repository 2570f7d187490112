"""python tests/support/ask_llama.py logits MODEL ADAPTER|- IDS.json OUT.npy, or: tokens MODEL TEXTS.json

llama.cpp's plain answers, in a process of its own because a bad file may end it.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp as lc
import numpy as np


def load(path: str) -> "lc.llama_model_p":
    """The model, or an assertion. As in the app, its weights are not repacked for the processor at hand."""
    lc.llama_backend_init()
    settings = lc.llama_model_default_params()
    settings.use_extra_bufts = False
    model = lc.llama_model_load_from_file(path.encode(), settings)
    assert model, f"{path} does not load"
    return model


def context(model: "lc.llama_model_p", adapter: str, size: int) -> "lc.llama_context_p":
    """As exact as llama.cpp can be: a float32 cache and no flash attention."""
    settings = lc.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = size
    settings.type_k = settings.type_v = lc.GGML_TYPE_F32
    settings.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
    found = lc.llama_init_from_model(model, settings)
    assert found
    if adapter != "-":
        lora = lc.llama_adapter_lora_init(model, adapter.encode())
        assert lora, f"{adapter} does not load"
        loras, scales = (lc.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1.0)
        assert lc.llama_set_adapters_lora(found, loras, 1, scales) == 0
    return found


def logits(path: str, adapter: str, ids: list[int]) -> np.ndarray:
    """What it expects after each token."""
    model = load(path)
    run = context(model, adapter, max(256, len(ids)))
    batch = lc.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert lc.llama_decode(run, batch) == 0
    size = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    return np.stack([np.ctypeslib.as_array(lc.llama_get_logits_ith(run, i), (size,)).copy() for i in range(len(ids))])


def tokens(path: str, texts: list[str]) -> list[list[int]]:
    """How it cuts texts, special tokens included and a first token added if the file says so."""
    vocabulary = lc.llama_model_get_vocab(load(path))
    found = []
    for text in texts:
        data = text.encode()
        space = (lc.llama_token * (len(data) + 8))()
        count = lc.llama_tokenize(vocabulary, data, len(data), space, len(space), True, True)
        found.append(list(space[:count]))
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["logits", path, adapter, ids, out]:
            np.save(out, logits(path, adapter, json.loads(Path(ids).read_text())))
        case ["tokens", path, texts]:
            print(json.dumps(tokens(path, json.loads(Path(texts).read_text()))))
