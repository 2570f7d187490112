"""Checks whether llama.cpp can load a GGUF safely, from its header alone, within 64 MB and two seconds.

No count or length in a file is trusted before it is checked.

    header      reads a header: `read_header`, `Header`
    reader      reads keys and values within limits
    value       a value of a header, and `BadFile`
    tensors     the table of tensors: types, sizes, offsets
    llama       the keys and tensors that a Llama needs
    vocabulary  the keys that its tokenizer needs
    lora        the keys and tensors that an adapter needs
    file_type   what a file is, if it is not a GGUF
"""

from models.check.header import Header, read_header
from models.check.value import BadFile

__all__ = ["BadFile", "Header", "read_header"]
