"""`python -m backend.export.export RUN`: exports the adapter of a training run as a variant, merged or as an adapter.

All files are staged. The last step renames the staged folder to its final name: before that, there is no variant.
"""

import hashlib
import re
import resource
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backend.core.errors import LabError, short
from backend.core.files import PARTLY
from backend.core.messages import Message
from backend.export.check import LogitComparison, check, run_child
from backend.gguf import llama
from backend.gguf.adapter import updates_of, write_adapter_for
from backend.gguf.model import stored_type, write_base
from backend.gguf.tensors import model_files
from backend.gguf.vocabulary import Vocabulary, vocabulary_of
from backend.jobs.events import ExportResult, StepFacts
from backend.jobs.journal import Journal, run_worker
from backend.library import weights_folder
from backend.llamacpp.chat_template import ChatTemplate, control_pattern
from backend.training.artifacts import CARD, FOLDER, IMPORTANCE, TrainingRecord, read_record
from backend.training.base_model import EMBEDDED, Base, base_at, checked
from backend.training.request import ExportRequest
from models.catalogue import Entry, catalogue, list_variants
from models.check import BadFile, read_header
from models.variant import Variant, sixteen_bit

# Upper limits for the size of the quantised model, relative to 16 bits (measured with 1B: 0.33, 0.37 and 0.54).
SIZE_RATIOS = {"Q4_K_M": 0.4, "Q5_K_M": 0.45, "Q8_0": 0.6, "F16": 0.0}
TURN: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
SAMPLES: list[list[Message]] = [TURN[:1], [*TURN, *TURN[:1]], [{"role": "system", "content": "Be brief."}, *TURN[:1]]]
STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")  # in the line that llama.cpp prints for each tensor


@dataclass(frozen=True)
class ExportJob:
    """One export: its request, the record of the training, the staging folder and the run's journal."""

    spec: ExportRequest
    record: TrainingRecord
    folder: Path
    journal: Journal

    @property
    def adapter(self) -> Path:
        return Path(self.spec.run) / FOLDER

    @property
    def file(self) -> Path:
        """The staged GGUF."""
        return self.folder / "model" / f"{self.spec.id}.gguf"

    def say(self, state: str) -> None:
        self.journal.step(StepFacts(state=state), now=True)

    def base(self) -> Base:
        """The 16-bit base at the commit of the training, if that is known."""
        if self.record.folder and self.record.base != EMBEDDED:
            return Base(self.record.base, checked(Path(self.record.folder)))
        trained_on = sixteen_bit(self.record.spec.base) == self.record.spec.base
        revision = (self.record.commit or self.record.spec.revision) if trained_on else ""
        return base_at(self.record.base, revision, self.say)

    def words(self, base: Path, size: int) -> Vocabulary:
        """The tokenizer of the training, with the prompt format of the training as chat template."""
        folder = self.adapter if (self.adapter / "tokenizer.json").is_file() else base
        return replace(vocabulary_of(folder, size), template=self.record.template)


def merge(export: ExportJob) -> None:
    """Write the merged model, and quantise it unless F16 is requested."""
    base, quantisation = export.base().folder, export.spec.quantisation
    size = sum(file.stat().st_size for file in model_files(base))
    weights_folder.check_space(Path(export.spec.weights), size + int(size * SIZE_RATIOS[quantisation]))
    if export.spec.importance and not (export.adapter / IMPORTANCE).is_file():
        raise LabError(
            "The training run has no importance matrix. Export without it, or train again with “Importance matrix”."
        )
    export.say("merging")
    if quantisation == "F16":
        write(export, base, export.file, "F16")
        return
    unquantised = export.folder / "whole.gguf"
    write(export, base, unquantised, stored_type(base))
    export.say("quantising")
    quantise(export, unquantised)
    unquantised.unlink()


def write(export: ExportJob, base: Path, out: Path, kind: str) -> None:
    """Write the merged model with the tokenizer and the chat template of the training."""
    shape = llama.shape_of(base)
    words = export.words(base, shape.vocabulary)
    write_base(base, out, kind, export.spec.id, words, updates_of(export.adapter, shape))


def quantise(export: ExportJob, source: Path) -> None:
    """Quantise a GGUF in a child process, and report its progress."""

    def on_line(line: str) -> None:
        if match := STEP.search(line):
            export.journal.step(StepFacts(state="quantising", done=int(match[1]), total=int(match[2])))

    words = [str(source), str(export.file), "--type", export.spec.quantisation]
    if export.spec.importance:
        words += ["--importance", str(export.adapter / IMPORTANCE)]
    run_child("backend.llamacpp.quantise", *words, on_line=on_line)


def adapt(export: ExportJob, base: Entry) -> None:
    """Write the adapter for a GGUF of the base."""
    assert base.header
    weights_folder.check_space(Path(export.spec.weights), (export.adapter / "adapter_model.safetensors").stat().st_size)
    export.say("writing")
    shape = llama.shape_from_header(base.header.keys)
    write_adapter_for(shape, export.adapter, export.file, "F16", export.spec.id, base.header.name or base.variant.id)


def find_base(record: TrainingRecord, weights: Path) -> Entry:
    """The downloaded GGUF of the base. Raises LabError with the variant to download if there is none."""
    name = short(record.base)
    bases = [entry for entry in list_variants(weights) if entry.variant.base == name and entry.variant.method == "base"]
    for entry in bases:
        if entry.runs and entry.model and not entry.adapter:
            return entry
    advice = next((f"Download {entry.variant.id} in the Library" for entry in bases if entry.variant.repo), "")
    raise LabError(
        f"An adapter needs a GGUF of its base {name}, and there is none. {advice or 'Import one in the Library'}, or "
        "export the merged model."
    )


def check_template(record: TrainingRecord, base: Entry) -> None:
    """Raise LabError if the chat template of the base, which the adapter would use, is not that of the training."""
    if record.spec.template != "own":
        return  # the variant.json of the adapter names its template
    template = base.header.template if base.header else ""
    if rendered(template) != rendered(record.template):
        raise LabError(
            f"The GGUF of {base.variant.id} has another chat template than the training, so the adapter would get "
            "other prompts. Export the merged model, which has its own template."
        )


def rendered(source: str) -> list[str]:
    """Render the sample conversations with a template."""
    template = ChatTemplate(source, "<s>", "</s>", control_pattern([]))
    return ["".join(text for text, _ in template.parts(messages)) for messages in SAMPLES]


def variant_of(export: ExportJob, over: str) -> Variant:
    """Check the header of the exported file and create its record. Raises LabError if the header is invalid."""
    record, file = export.record, export.file
    try:
        read_header(file)
    except BadFile as error:
        raise LabError(f"The exported file is not usable: {error}. Export it again.") from error
    licences = (entry.licence for entry in catalogue() if entry.base == record.base and entry.licence != "unknown")
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Variant(
        id=export.spec.id,
        about=f"trained here: {short(record.base)}, {record.step} steps of {record.spec.method}, {record.rows:,} rows",
        base=record.base,
        method=record.spec.method,
        quantisation="F16" if over else export.spec.quantisation,
        size=file.stat().st_size,
        licence=next(licences, "unknown"),
        template=record.spec.template,
        file=file.name,
        over=over,
        sha256=sha256,
    )


def finish(export: ExportJob) -> tuple[Variant, LogitComparison | None]:
    """Write the file, check it, and install it as the last step."""
    spec, weights = export.spec, Path(export.spec.weights)
    export.file.parent.mkdir()
    base = find_base(export.record, weights) if spec.form == "adapter" else None
    if base:
        check_template(export.record, base)
        adapt(export, base)
    else:
        merge(export)
    export.say("checking")
    if base and base.model:
        comparison = check(export.folder, Path(spec.run), base.model, export.file)
    else:
        comparison = check(export.folder, Path(spec.run), export.file)
    variant = variant_of(export, base.variant.id if base else "")
    if (export.adapter / CARD).is_file():
        shutil.copyfile(export.adapter / CARD, export.file.parent / CARD)
    export.say("placing")
    weights_folder.install(export.file.parent, weights, variant)
    return variant, comparison


def export(spec: ExportRequest, journal: Journal) -> None:
    """Export the adapter. Raises LabError, and leaves no file, if that fails. The adapter itself is not changed."""
    started, weights, record = time.monotonic(), Path(spec.weights), read_record(Path(spec.run))
    weights_folder.remove_leftovers(weights)
    weights_folder.refuse_if_exists(weights, spec.id)
    with weights_folder.staging(weights, journal.folder.name) as folder:
        try:
            variant, comparison = finish(ExportJob(spec, record, folder, journal))
        except OSError as error:
            raise LabError(
                f"The export could not write its files: {error.strerror or PARTLY}. Free space or allow writing in "
                f"{weights.name}/, then export again. The adapter is unchanged."
            ) from error
    journal.result(
        ExportResult(
            **variant.model_dump(include={"id", "file", "size", "quantisation", "over", "sha256"}),
            **(asdict(comparison) if comparison else {}),
            memory=_memory(),
            seconds=round(time.monotonic() - started, 1),
        )
    )


def _memory() -> int:
    """Peak memory in bytes of this process or a child, memory-mapped files included."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(run_worker(ExportRequest, export))
