"""python -m backend.llamacpp.quantise IN OUT --type q4_k_m [--threads N] [--importance FILE]

Quantises a 16- or 32-bit GGUF with llama.cpp's own code. Ends with 0 and the finished file, or with 1 and a
sentence. llama.cpp may end the process instead of returning; then no OUT appears either.
FILE is an .npz: the name of a weight in the GGUF -> the mean square of each of its inputs.
"""

import argparse
import ctypes
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from backend.core import files
from backend.core.errors import LabError
from models.check import BadFile, read_header

TYPES = {
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q3_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_M,
}
WHOLE = (gguf.LlamaFileType.ALL_F32, gguf.LlamaFileType.MOSTLY_F16, gguf.LlamaFileType.MOSTLY_BF16)
ERROR = 4  # ggml's level
BUFFER = 256 << 20  # bytes of work space; llama.cpp would take up to 8 GiB


_reasons: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _listen(level: int, text: bytes, data: Any) -> None:
    line = text.decode("utf-8", "replace")
    print(line, end="", file=sys.stderr, flush=True)
    if level == ERROR:
        _reasons.append(line.strip().rpartition(": ")[2][:200])


def check_source(source: Path) -> None:
    """Refuse what llama.cpp would refuse less clearly."""
    try:
        kind = read_header(source).keys.get("general.file_type")
    except (BadFile, OSError) as error:
        raise LabError(f"{source.name} is not a whole GGUF model ({error}). Write it again.") from error
    if kind not in WHOLE:
        raise LabError(f"{source.name} is already quantised. Quantise the 16-bit file instead.")


def importance_in(file: Path) -> Any:
    """The file as the array llama.cpp wants, ended by a row of nothing."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            importance = {name: np.ascontiguousarray(stored[name], np.float32) for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LabError(f"{file.name} is not a whole importance matrix. Measure it again.") from error
    if not importance or not all(values.ndim == 1 and bool((values >= 0).all()) for values in importance.values()):
        raise LabError(f"{file.name} holds something other than mean squares. Measure it again.")
    rows = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for row, (name, values) in zip(rows, importance.items(), strict=False):
        row.name, row.size = name.encode(), values.size
        row.data = (ctypes.c_float * values.size).from_buffer(values)
    return rows


def quantise(source: Path, out: Path, kind: str, threads: int, importance: Path | None = None) -> None:
    """Write the quantised copy."""
    check_source(source)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = TYPES[kind]
    settings.nthread = threads
    settings.max_buf_size = BUFFER
    llama_cpp.llama_log_set(_listen, ctypes.c_void_p(0))
    if importance:
        settings.imatrix = importance_in(importance)
    with files.complete_file(out) as part:
        files.check_free_space(out, source.stat().st_size // 4)
        code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(part), ctypes.byref(settings))
        if code:
            free = shutil.disk_usage(part.parent).free
            raise LabError(
                f"llama.cpp could not quantise {source.name} ({'; '.join(_reasons) or 'it gave no reason'}); the disk "
                f"has {free / 1e6:,.0f} MB left. Free disk space, or write that file again."
            )


def main() -> int:
    """Quantise, or say why not."""
    parser = argparse.ArgumentParser(description="Quantise a GGUF.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="q4_k_m", type=str.lower, choices=list(TYPES))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--importance", type=Path)
    options = parser.parse_args()
    try:
        quantise(options.source, options.out, options.type, options.threads, options.importance)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB, {options.type})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
