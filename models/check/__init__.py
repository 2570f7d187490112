"""Whether a GGUF may be given to llama.cpp: told from its header alone, within 64 MB and two seconds, whatever it says.

`header` is the door; `reader` reads keys within bounds, `tensors` the table of tensors; `llama`, `vocabulary` and
`lora` say what makes sense, and `disguise` what a file is that is no GGUF.
Nothing here trusts a count before it is checked.
"""

from models.check.header import Header, read_header
from models.check.value import BadFile

__all__ = ["BadFile", "Header", "read_header"]
