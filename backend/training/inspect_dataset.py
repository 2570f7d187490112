"""`python -m backend.training.inspect_dataset RUN`: reads a dataset as a training does, and writes a report on it."""

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

from backend.data.load import load
from backend.data.rows import Row, count_duplicates, overlap
from backend.jobs.events import DatasetResult, StepFacts
from backend.jobs.journal import Journal, run_worker
from backend.training.base_model import base_at
from backend.training.dataset_report import FILE, DatasetReport, Sample
from backend.training.encode import Encoder, Segment, Tokenised, tokenised
from backend.training.request import TrainSettings

SAMPLES, SAMPLE_LENGTH = 4, 6000  # rows in the report, and characters of each
BINS = 30


def inspect(spec: TrainSettings, journal: Journal) -> None:
    """Write the report. LabError for the same reasons as in a training."""
    journal.step(StepFacts(state="reading the data"), now=True)
    data = load(spec.data, print)
    base = base_at(spec.base, spec.revision, lambda state: journal.step(StepFacts(state=state), now=True))
    encoder = Encoder(base.folder, spec.template)
    total = len(data.train)
    train = tokenised(
        data.train, encoder, spec, lambda done: journal.step(StepFacts(state="tokenising", done=done, total=total))
    )
    held = tokenised(data.eval_rows, encoder, spec)
    dropped = sorted([*data.dropped, *train.dropped, *held.dropped], key=lambda row: row.line)
    lengths = [row.length for row in train.rows]
    counts, edges = np.histogram(lengths or [0], bins=BINS, range=(0, max(lengths, default=1)))
    both = overlap(train.sources, held.sources)
    report = DatasetReport(
        rows=len(train.sources),
        held=len(held.sources),
        dropped=len(dropped),
        why_dropped=[(row.line, row.why, row.text) for row in dropped[:5]],
        reasons=dict(Counter(row.why for row in dropped).most_common(5)),
        notes=[*data.notes, *train.notes],
        columns=list(data.columns),
        shape=data.shape,
        sha256=data.sha256,
        commit=data.commit,
        limit=spec.max_length,
        cut=train.cut,
        longest=max(lengths, default=0),
        edges=[int(edge) for edge in edges],
        counts=[int(count) for count in counts] if lengths else [0] * BINS,
        tokens=sum(len(row.ids) for row in train.rows),
        learnt=sum(row.trained for row in train.rows),
        duplicates=count_duplicates(train.sources),
        in_both=[(train_row.line, eval_row.line) for train_row, eval_row in both[:5]],
        leaks=len(both),
        samples=samples(train, encoder, spec),
        foreign=spec.template != "own" and encoder.has_own,
    )
    (journal.folder / FILE).write_text(report.model_dump_json(), encoding="utf-8")
    journal.result(DatasetResult(rows=report.rows, held=report.held, dropped=report.dropped))


def samples(rows: Tokenised, encoder: Encoder, spec: TrainSettings) -> list[Sample]:
    """The first examples, as the model sees them."""
    shown = [
        (row, example)
        for row in rows.sources[:SAMPLES]
        for example in encoder.examples(row.messages, spec.learn, spec.thoughts, row.masked)
    ]
    return [_sample(row, example, encoder, spec) for row, example in shown[:SAMPLES]]


def _sample(row: Row, example: Sequence[Segment], encoder: Encoder, spec: TrainSettings) -> Sample:
    pieces, cut, room = [], "", spec.max_length
    encoded = encoder.encoded(example, spec.max_length)
    for parts, trained in example:
        inside, beyond, count = encoder.split(parts, room)
        room -= count
        pieces.append((inside, trained))
        cut += beyond
    shown = [(text[:SAMPLE_LENGTH], trained) for text, trained in pieces if text]
    return Sample(line=row.line, tokens=encoded.length, learnt=encoded.trained, pieces=shown, cut=cut[:SAMPLE_LENGTH])


if __name__ == "__main__":
    sys.exit(run_worker(TrainSettings, inspect))
