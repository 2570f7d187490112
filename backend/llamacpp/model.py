"""A GGUF model: its weights, vocabulary, adapters and samplers. For workers only."""

import ctypes
import os
from typing import Any, Protocol

import llama_cpp as llama

from backend.core.errors import LabError
from backend.llamacpp.chat_template import control_pattern

_CONTROL = llama.LLAMA_TOKEN_ATTR_CONTROL


class Settings(Protocol):
    """Generation settings, with the names that llama.cpp gives them."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def repeat_penalty(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def grammar(self) -> str: ...


class Model:
    """One GGUF, memory-mapped. LabError if llama.cpp cannot load it.

    `use_extra_bufts` is off: repacking would copy the weights into private memory (no sharing, about twice the
    RAM) and is slower at reading prompts than the tiled kernels, which only see weights that were not repacked.
    """

    def __init__(self, path: str) -> None:
        llama.llama_log_set(_quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.use_extra_bufts = False
        params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
        self.handle = llama.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            raise LabError("llama.cpp cannot load this file: it is damaged or not a model. Replace the file.")
        self.vocab = llama.llama_model_get_vocab(self.handle)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.context_trained = llama.llama_model_n_ctx_train(self.handle)
        self.special = self._special()
        self.control = control_pattern(list(self.special))
        self.template = (llama.llama_model_chat_template(self.handle, None) or b"").decode("utf-8", "replace")

    def _special(self) -> dict[str, int]:
        """Text and id of every control token."""
        return {
            text: token
            for token in range(self.n_vocab)
            if llama.llama_vocab_get_attr(self.vocab, token) & _CONTROL and (text := self.text_of(token))
        }

    def text_of(self, token: int) -> str:
        """A token as the vocabulary writes it; empty for a negative id (a model may have no BOS)."""
        return llama.llama_vocab_get_text(self.vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    @property
    def bos(self) -> str:
        return self.text_of(llama.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> str:
        return self.text_of(llama.llama_vocab_eos(self.vocab))

    def words(self, text: str) -> list[int]:
        """Token ids of plain text: no part of it becomes a control token, and no BOS is added."""
        data = text.encode("utf-8", "replace")
        most = len(data) + 8  # byte-level: never more tokens than bytes
        buffer = (llama.llama_token * most)()
        count = llama.llama_tokenize(self.vocab, data, len(data), buffer, most, False, False)
        if count < 0:
            raise LabError("This text could not be tokenised. Shorten it and send it again.")
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens. Tokens may be longer than any fixed buffer."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_token_to_piece(self.vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def ends(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self.vocab, token))

    def adapter(self, path: str) -> Any:
        """Load a LoRA for these weights. LabError if it was made for another model."""
        handle = llama.llama_adapter_lora_init(self.handle, os.fsencode(path))
        if not handle:  # a NULL pointer object is falsy but is not None
            raise LabError(
                "This adapter does not fit the base it was started over: it was made for another model, or it is "
                "damaged. Name the right base for it in the Library folder."
            )
        return handle

    def sampler(self, sampling: Settings) -> Any:
        """A chain of llama.cpp samplers; the caller frees it. LabError if the grammar is not GBNF."""
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for part in self._parts(sampling):
            if not part:  # adding NULL would crash at the first token
                llama.llama_sampler_free(chain)
                raise LabError("This grammar is not valid GBNF with a rule named root. Correct it or leave it empty.")
            llama.llama_sampler_chain_add(chain, part)
        return chain

    def _parts(self, sampling: Settings) -> list[Any]:
        parts = []
        if sampling.grammar.strip():
            parts.append(llama.llama_sampler_init_grammar(self.vocab, sampling.grammar.encode(), b"root"))
        if sampling.repeat_penalty > 1:
            parts.append(llama.llama_sampler_init_penalties(self.n_vocab, 64, sampling.repeat_penalty, 0.0, 0.0))
        if sampling.temperature <= 0:
            return [*parts, llama.llama_sampler_init_greedy()]
        return [
            *parts,
            llama.llama_sampler_init_top_k(sampling.top_k),  # first: it shortens the list for all that follow
            llama.llama_sampler_init_top_p(sampling.top_p, 1),
            llama.llama_sampler_init_min_p(sampling.min_p, 1),
            llama.llama_sampler_init_temp(sampling.temperature),
            llama.llama_sampler_init_dist(sampling.seed),
        ]


_WARNING = 3  # ggml's levels: 2 info, 3 warning, 4 error, 5 the line before goes on


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _quiet(level: int, text: bytes, data: Any) -> None:
    if level == _WARNING + 1:
        print(text.decode("utf-8", "replace"), end="", flush=True)
