"""python -m bench.export [--quick] [--full] [--sdist FILE] [--build]

A base in the shapes of Llama 3.2 1B (random weights, Llama 3's own 128,256 tokens) and a LoRA over it, exported to
Q4_K_M by the app (merge, quantise, load and check, sha256, fsync, place) and by llama.cpp's tools from a folder that
PEFT has merged before the clock runs: convert_hf_to_gguf.py, then its quantiser, which is llama-quantize where --build
makes it (some minutes, once), else the same function of the installed library as llama-quantize calls it.

Memory is what a process has to itself (RssAnon + RssShmem), added up over the process and its children every 20 ms;
mapped files count in the second column only, because they are given back when asked. Linux only.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from backend.gguf.adapter import updates_of
from backend.gguf.llama import shape_of
from backend.gguf.model import write_base
from backend.gguf.tensors import Array
from bench.export_model import write_folder, write_run
from bench.library import aim
from bench.shapes import SHAPES
from models.check.reader import Reader
from models.check.tensors import Tensor, alignment_of, read_tensors

ROOT = Path(__file__).parents[1]
TINY = ROOT / "models" / "tiny" / "base"
SMALL = (2, 256, 1024, 4, 2, 64)  # for --quick: blocks, width, inner, heads, heads of keys, values of a head
TIME_AIM, MEMORY_AIM, LOGITS_AIM = 1.0, 0.5, 1e-3
LIBRARY = f"llama_cpp_python-{importlib.metadata.version('llama_cpp_python')}"
MERGE = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, lora, out, kind = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, kind))
PeftModel.from_pretrained(model, lora).merge_and_unload().save_pretrained(out)
"""
LOGITS = """
import sys, numpy, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
with torch.inference_mode():
    found = model(input_ids=torch.from_numpy(numpy.load(sys.argv[2]).astype("int64"))[None]).logits[0]
numpy.save(sys.argv[3], found.numpy())
"""
QUANTISE = """
import ctypes, os, sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype, settings.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(settings)))
"""


@dataclass(frozen=True)
class Cost:
    seconds: float
    own: int
    """Peak of private memory of the process and its children, in bytes."""
    all: int
    """Peak with mapped files, in bytes."""

    def then(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, max(self.own, other.own), max(self.all, other.all))


def watched(*command: str | Path, **known: str) -> Cost:
    """Run a command. Its output is shown only if it fails."""
    began, own, total = time.perf_counter(), 0, 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=os.environ | known,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        while process.poll() is None:
            one, every = _memory(process.pid)
            own, total = max(own, one), max(total, every)
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        output.seek(0)
        assert process.returncode == 0, output.read().decode(errors="replace")[-3000:]
    return Cost(seconds, own, total)


def _memory(pid: int) -> tuple[int, int]:
    own = total = 0
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0, 0
    for one in tree:
        try:
            rows = (Path("/proc") / str(one) / "status").read_text().splitlines()
        except OSError:
            continue
        kept = {row.split(":")[0]: int(row.split()[1]) * 1024 for row in rows if row.startswith("Rss")}
        own += kept.get("RssAnon", 0) + kept.get("RssShmem", 0)
        total += sum(kept.values())
    return own, total


def sources(sdist: Path | None) -> Path:
    """The sources of the installed llama.cpp, downloaded once into build/."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    if not (build / LIBRARY).is_dir():
        if sdist is None:
            words = ["-q", "--no-deps", "--no-binary", ":all:", "-d", str(build)]
            command = [sys.executable, "-m", "pip", "download", *words]
            subprocess.run([*command, LIBRARY.replace("_", "-").replace("-python-", "-python==")], check=True)
            sdist = build / f"{LIBRARY}.tar.gz"
        with tarfile.open(sdist) as archive:
            archive.extractall(build, filter="data")
    return build / LIBRARY / "vendor" / "llama.cpp"


def built(source: Path) -> Path:
    """Build llama-quantize from these sources."""
    out = ROOT / "build" / "llama-quantize"
    if not (out / "bin" / "llama-quantize").exists():
        off = [f"-DLLAMA_{name}=OFF" for name in ("CURL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_SERVER")]
        for words in (["-S", str(source), "-B", str(out), "-DCMAKE_BUILD_TYPE=Release", *off],
                      ["--build", str(out), "--target", "llama-quantize", "-j", str(os.cpu_count())]):  # fmt: skip
            subprocess.run(["cmake", *words], check=True, stdout=subprocess.DEVNULL)
    return out / "bin" / "llama-quantize"


def exported(home: Path, run: Path, name: str, quantisation: str) -> tuple[Path, Cost]:
    """Export with the app's worker."""
    folder = home / f"20300101-000001-000-export-{name}"
    folder.mkdir()
    asked = {"run": str(run), "id": name, "weights": str(home / "weights"), "quantisation": quantisation}
    (folder / "spec.json").write_text(json.dumps({"asked": asked}))
    cost = watched(sys.executable, "-m", "backend.export.export", folder)
    return home / "weights" / name / f"{name}.gguf", cost


def unequal(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """The number of their tensors, and the names of those that differ in ours in type, shape or a bit."""
    here, there = tensors_of(ours), tensors_of(theirs)
    wrong = sorted(here.keys() ^ there.keys())
    for name in here.keys() & there.keys():
        (one, at), (other, where) = here[name], there[name]
        same = one._replace(offset=0) == other._replace(offset=0)
        if not same or not np.array_equal(stored(ours, at, one.bytes), stored(theirs, where, other.bytes)):
            wrong.append(name)
    return len(there), wrong


def tensors_of(file: Path) -> dict[str, tuple[Tensor, int]]:
    """The tensors of a GGUF and the offsets of their data. The gguf package would take 10 seconds."""
    with file.open("rb") as stream:
        reader = Reader(stream, file.stat().st_size)
        _, _, count, keys = reader.numbers("<4sIQQ")
        alignment = alignment_of(reader.facts(keys))
        table = read_tensors(reader, count)
        start = -(-reader.offset // alignment) * alignment
    return {name: (tensor, start + tensor.offset) for name, tensor in table.items()}


def stored(file: Path, at: int, size: int) -> Array:
    found: Array = np.memmap(file, np.uint8, "r", at, (size,))
    return found


def furthest(home: Path, base: Path, lora: Path, merged: Path) -> float:
    """The largest difference between logits of our merged F32 file and of PEFT's merged model in Transformers."""
    size = shape_of(base).vocabulary
    np.save(home / "tokens.npy", np.random.default_rng(2).integers(0, size, 100).astype(np.int32))
    write_base(base, home / "f32.gguf", "F32", "bench", updates=updates_of(lora, shape_of(base)))
    watched(sys.executable, "-m", "backend.llamacpp.logits", home / "f32.gguf", home / "tokens.npy", home / "ours.npy")
    watched(sys.executable, "-c", LOGITS, merged, home / "tokens.npy", home / "theirs.npy")
    (home / "f32.gguf").unlink()
    return float(np.abs(np.load(home / "ours.npy") - np.load(home / "theirs.npy")).max())


def converted(source: Path, home: Path, merged: Path, kind: str) -> tuple[Path, Cost]:
    """Convert with llama.cpp's script, which imports sentencepiece although this tokenizer does not need it."""
    stub = home / "stub"
    stub.mkdir(exist_ok=True)
    (stub / "sentencepiece.py").write_text("class SentencePieceProcessor: ...\n")
    out = home / f"theirs-{kind}.gguf"
    script = str(source / "convert_hf_to_gguf.py")
    words = [sys.executable, script, str(merged), "--outtype", kind, "--outfile", str(out)]
    return out, watched(*words, PYTHONPATH=str(stub))


def quantised(quantiser: Path | None, whole: Path, out: Path) -> Cost:
    """Quantise with llama.cpp's defaults: a thread per core, and up to 8 GiB of working memory."""
    threads = str(os.cpu_count())
    if quantiser:
        return watched(quantiser, whole, out, "Q4_K_M", threads)
    return watched(sys.executable, "-c", QUANTISE, whole, out, threads)


def measured(home: Path, source: Path, options: argparse.Namespace) -> list[str]:
    """Print the tables. Return the lines of the aims."""
    numbers = SMALL if options.quick else SHAPES["1B"]
    quantiser = built(source) if options.build else None
    base, run, merged = home / "base", home / "20300101-000000-000-train-bench", home / "merged"
    write_folder(base, source / "models" / "ggml-vocab-llama-bpe.gguf", numbers)
    lora = write_run(run, base, numbers)
    by_peft = watched(sys.executable, "-c", MERGE, base, lora, merged, "bfloat16")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, merged)
    os.sync()
    q4, ours = exported(home, run, "q4", "Q4_K_M")
    whole, conversion = converted(source, home, merged, "bf16")
    quantising = quantised(quantiser, whole, home / "theirs-q4.gguf")
    theirs = conversion.then(quantising)
    same = unequal(q4, home / "theirs-q4.gguf")[1]
    whole.unlink()
    rows = {
        "the app: everything, from the adapter": ours, "convert_hf_to_gguf.py": conversion,
        f"{quantiser.name if quantiser else 'llama_model_quantize'}": quantising, "theirs together": theirs,
        "(PEFT's merge, which theirs needs first)": by_peft,
    }  # fmt: skip
    size = (base / "model.safetensors").stat().st_size
    print(f"{size / 1e9:.2f} GB in bf16 to Q4_K_M; of the tensors in Q4_K_M {len(same)} differ\n")
    print("| | seconds | own memory, MB | with mapped files, MB |\n|---|--:|--:|--:|")
    for name, cost in rows.items():
        print(f"| {name} | {cost.seconds:.1f} | {cost.own / 1e6:.0f} | {cost.all / 1e6:.0f} |")
    f16, _ = exported(home, run, "f16", "F16")
    count, wrong = unequal(f16, converted(source, home, merged, "f16")[0])
    far = furthest(home, base, lora, merged) if options.full else 0.0
    run, small = home / "20300101-000000-001-train-bench", home / "small"
    lora = write_run(run, TINY, (4, 256, 768, 4, 2, 64))
    watched(sys.executable, "-c", MERGE, TINY, lora, small, "bfloat16")
    far = max(far, furthest(home, TINY, lora, small))
    slower, larger = ours.seconds / theirs.seconds, ours.own / theirs.own
    return [
        aim("export_time", f"{slower:.2f}x", f"at most {TIME_AIM:.2f}x of theirs", slower <= TIME_AIM),
        aim("export_memory", f"{larger:.2f}x", f"less than {MEMORY_AIM:.1f}x of theirs", larger < MEMORY_AIM),
        aim("f16_equal", f"{count - len(wrong)} of {count}", "tensors, all of them, bit for bit", not wrong),
        aim("logits", f"{far:.1e}", f"at most {LOGITS_AIM:.0e} from Hugging Face's", far <= LOGITS_AIM),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 small blocks with the same vocabulary")
    parser.add_argument("--full", action="store_true", help="logits in F32 at the shapes of 1B too: 12 GB of memory")
    parser.add_argument("--sdist", type=Path, help="the source distribution of llama-cpp-python; else it is fetched")
    parser.add_argument("--build", action="store_true", help="build llama-quantize")
    options = parser.parse_args()
    source = sources(options.sdist)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="export ") as folder:
        print("\n" + "\n".join(measured(Path(folder), source, options)))


if __name__ == "__main__":
    main()
