"""python -m backend.export.export RUN: what a training run made becomes a variant, merged or as an adapter.

Everything is written where arrivals lie and gets its place by one rename, last: until then there is no variant.
"""

import hashlib
import re
import resource
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from backend.core.errors import LabError, short
from backend.core.files import PARTLY
from backend.core.messages import Message
from backend.export.check import LogitComparison, check, run_child
from backend.gguf import llama
from backend.gguf.adapter import updates_of, write_over
from backend.gguf.model import type_of, write_base
from backend.gguf.tensors import model_files
from backend.gguf.vocabulary import Vocabulary, vocabulary_of
from backend.jobs.events import StepFacts
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.llamacpp.chat_template import ChatTemplate, control_pattern
from backend.training.artifacts import CARD, FOLDER, IMPORTANCE, ExportRequest, TrainingRecord, read_record
from backend.training.base_model import EMBEDDED, Base, base_at, checked, sixteen_bit
from models.catalogue import Entry, catalogue, list_variants
from models.check import BadFile, read_header
from models.variant import Variant

# Of the 16-bit model's size: what the quantised one has at most (of 1B 0.33, 0.37 and 0.54).
SHARES = {"Q4_K_M": 0.4, "Q5_K_M": 0.45, "Q8_0": 0.6, "F16": 0.0}
TURN: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
SAMPLES: list[list[Message]] = [TURN[:1], [*TURN, *TURN[:1]], [{"role": "system", "content": "Be brief."}, *TURN[:1]]]
STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")  # llama.cpp's line for each tensor


@dataclass(frozen=True)
class ExportJob:
    """What is asked, of what, and where it is being made. `file` is the GGUF to be."""

    spec: ExportRequest
    made: TrainingRecord
    folder: Path
    journal: Journal

    @property
    def adapter(self) -> Path:
        return Path(self.spec.run) / FOLDER

    @property
    def file(self) -> Path:
        return self.folder / "model" / f"{self.spec.id}.gguf"

    def say(self, state: str) -> None:
        self.journal.step(StepFacts(state=state), now=True)

    def base(self) -> Base:
        """The 16-bit base, as it was when it was trained on, as far as that is known."""
        if self.made.folder and self.made.base != EMBEDDED:
            return Base(self.made.base, checked(Path(self.made.folder)))
        trained_on = sixteen_bit(self.made.spec.base) == self.made.spec.base
        revision = (self.made.commit or self.made.spec.revision) if trained_on else ""
        return base_at(self.made.base, revision, self.say)

    def words(self, base: Path, size: int) -> Vocabulary:
        """The tokenizer that was trained with, and in it the template that was trained."""
        folder = self.adapter if (self.adapter / "tokenizer.json").is_file() else base
        return replace(vocabulary_of(folder, size), template=self.made.template)


def merge(export: ExportJob) -> None:
    """Write the merged model, quantised if so asked."""
    base, quantisation = export.base().folder, export.spec.quantisation
    size = sum(file.stat().st_size for file in model_files(base))
    weights_folder.check_space(Path(export.spec.weights), size + int(size * SHARES[quantisation]))
    if export.spec.importance and not (export.adapter / IMPORTANCE).is_file():
        raise LabError(
            "The training run measured no importance matrix. Export without it, or train again with that setting on."
        )
    export.say("merging")
    if quantisation == "F16":
        write(export, base, export.file, "F16")
        return
    whole = export.folder / "whole.gguf"
    write(export, base, whole, type_of(base))
    export.say("quantising")
    quantise(export, whole)
    whole.unlink()


def write(export: ExportJob, base: Path, out: Path, kind: str) -> None:
    """The merged model, with the trained template in it."""
    shape = llama.shape_of(base)
    words = export.words(base, shape.vocabulary)
    write_base(base, out, kind, export.spec.id, words, updates_of(export.adapter, shape))


def quantise(export: ExportJob, whole: Path) -> None:
    """In another process, whose progress is told."""

    def seen(line: str) -> None:
        if found := STEP.search(line):
            export.journal.step(StepFacts(state="quantising", done=int(found[1]), total=int(found[2])))

    words = [str(whole), str(export.file), "--type", export.spec.quantisation]
    if export.spec.importance:
        words += ["--importance", str(export.adapter / IMPORTANCE)]
    run_child("backend.llamacpp.quantise", *words, seen=seen)


def adapt(export: ExportJob, base: Entry) -> None:
    """Write the adapter for a GGUF that is here."""
    assert base.header
    weights_folder.check_space(Path(export.spec.weights), (export.adapter / "adapter_model.safetensors").stat().st_size)
    export.say("writing")
    shape = llama.shape_in(base.header.keys)
    write_over(shape, export.adapter, export.file, "F16", export.spec.id, base.header.name or base.variant.id)


def base_here(made: TrainingRecord, weights: Path) -> Entry:
    """The variant that holds the base's own weights. LabError naming what to download if there is none."""
    name = short(made.base)
    bases = [entry for entry in list_variants(weights) if entry.variant.base == name and entry.variant.method == "base"]
    for entry in bases:
        if entry.runs and entry.model and not entry.adapter:
            return entry
    known = next((f"Download {entry.variant.id} in the Library" for entry in bases if entry.variant.repo), "")
    raise LabError(
        f"An adapter runs over a GGUF of {name}, and none is here. {known or 'Bring one into the Library'}, or "
        "export the merged model."
    )


def same_template(made: TrainingRecord, base: Entry) -> None:
    """LabError where an adapter would be spoken to in another way than it was trained: its base brings the template."""
    if made.spec.template != "own":
        return  # its record names the template
    theirs = base.header.template if base.header else ""
    if written(theirs) != written(made.template):
        raise LabError(
            f"The GGUF of {base.variant.id} writes conversations in another way than this was trained with, so over it "
            "the adapter would be asked wrongly. Export the merged model, which carries its own template."
        )


def written(source: str) -> list[str]:
    """What a template makes of some conversations."""
    template = ChatTemplate(source, "<s>", "</s>", control_pattern([]))
    return ["".join(text for text, _ in template.parts(messages)) for messages in SAMPLES]


def variant_of(export: ExportJob, over: str) -> Variant:
    """The record of the finished file."""
    made, file = export.made, export.file
    try:
        read_header(file)
    except BadFile as error:
        raise LabError(f"The finished file is not one this app can use: {error}. Export it again.") from error
    licences = (known.licence for known in catalogue() if known.base == made.base and known.licence != "unknown")
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Variant(
        id=export.spec.id,
        about=f"made here: {short(made.base)} after {made.step} steps of {made.spec.method} on {made.rows:,} rows",
        base=made.base,
        method=made.spec.method,
        quantisation="F16" if over else export.spec.quantisation,
        size=file.stat().st_size,
        licence=next(licences, "unknown"),
        template=made.spec.template,
        file=file.name,
        over=over,
        sha256=sha256,
    )


def finish(export: ExportJob) -> tuple[Variant, LogitComparison | None]:
    """Make it, check it and, last, place it."""
    spec, weights = export.spec, Path(export.spec.weights)
    export.file.parent.mkdir()
    base = base_here(export.made, weights) if spec.form == "adapter" else None
    if base:
        same_template(export.made, base)
        adapt(export, base)
    else:
        merge(export)
    export.say("checking")
    if base and base.model:
        close = check(export.folder, Path(spec.run), base.model, export.file)
    else:
        close = check(export.folder, Path(spec.run), export.file)
    variant = variant_of(export, base.variant.id if base else "")
    if (export.adapter / CARD).is_file():
        shutil.copyfile(export.adapter / CARD, export.file.parent / CARD)
    export.say("placing")
    weights_folder.install(export.file.parent, weights, variant)
    return variant, close


def export(spec: ExportRequest, journal: Journal) -> None:
    """Everything that was asked, or a LabError and nothing; the adapter stays what it is."""
    begun, weights, made = time.monotonic(), Path(spec.weights), read_record(Path(spec.run))
    weights_folder.remove_leftovers(weights)
    weights_folder.refuse_if_exists(weights, spec.id)
    with weights_folder.staging(weights, journal.folder.name) as folder:
        try:
            variant, close = finish(ExportJob(spec, made, folder, journal))
        except OSError as error:
            raise LabError(
                f"The export could not go on: {error.strerror or PARTLY}. Free space or allow writing in "
                f"{weights.name}/, then export again; the adapter is kept."
            ) from error
    journal.result(
        **variant.model_dump(include={"id", "file", "size", "quantisation", "over", "sha256"}),
        **(close.__dict__ if close else {}),
        memory=_memory(),
        seconds=round(time.monotonic() - begun, 1),
    )


def _memory() -> int:
    """Bytes, the most that this process or one it started had, mapped files included."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(run_worker(ExportRequest, export))
