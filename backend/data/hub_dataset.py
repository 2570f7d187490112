"""Data sets of the Hub as records. For workers: `datasets` is heavy.

`datasets` finds out what a repository holds: its card, its subsets and splits, their files. JSON and CSV are streamed
by it; Parquet is read by the row group, so that a thousand rows do not cost a hundred thousand.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import fsspec  # type: ignore[import-untyped]
from datasets.exceptions import DataFilesNotFoundError
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import HfApi, constants
from huggingface_hub.hf_api import DatasetInfo

from backend.core.errors import LabError
from backend.data import parquet
from backend.data.columns import listed
from backend.data.dataset import REPO, DatasetSpec, shown
from backend.data.formats import is_wanted
from backend.data.rows import Record
from backend.hub.errors import Target, explain

PATIENCE = 20.0  # seconds for one answer of the Hub
AGAIN = 1  # times `datasets` asks for a piece: the client below it has asked six times by then


@dataclass(frozen=True)
class HubDataset:
    """A data set at one commit, and the files of one split."""

    commit: str
    builder: Any
    files: list[str]


def records(spec: DatasetSpec, wanted: list[range]) -> tuple[str, Iterator[Record]]:
    """The commit, and the rows wanted of it."""
    prepare()
    found = find(spec)
    if isinstance(found.builder, Parquet):
        opened = [(file.rpartition("/")[2], fsspec.open(file, "rb").open) for file in found.files]
        return found.commit, _explained(spec, parquet.read(opened, wanted))
    return found.commit, _explained(spec, _streamed(found.builder, spec.split, wanted))


def prepare() -> None:
    """Plain transfers, no bars in the log, and an end to asking again."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = AGAIN


def find(spec: DatasetSpec) -> HubDataset:
    """LabError for what is not there, may not be read, or is no data."""
    try:
        info = HfApi().dataset_info(spec.source, revision=spec.revision or None, timeout=PATIENCE)
        if info.gated:
            HfApi().auth_check(spec.source, repo_type="dataset")
    except Exception as error:
        raise explain(error, _target(spec)) from error
    repo, commit = _checked(spec, info)
    try:
        # hf:// keeps `datasets` from taking a folder of this machine that has the same name
        builder = datasets.load_dataset_builder(f"hf://datasets/{repo}", spec.subset or None, revision=commit)
    except Exception as error:
        raise _unreadable(error, spec) from error
    return HubDataset(commit, builder, _files(spec, builder, f"hf://datasets/{repo}@{commit}/"))


def _checked(spec: DatasetSpec, info: DatasetInfo) -> tuple[str, str]:
    """The name the Hub has for it and the commit. A repository that wants to run code is refused."""
    if not info.sha or not REPO.fullmatch(info.id):
        raise LabError("What answers is not the Hub: it names no commit. Check HF_ENDPOINT, then try again.")
    script = info.id.rpartition("/")[2] + ".py"
    if any(one.rfilename == script for one in info.siblings or []):
        raise LabError(
            f"{shown(spec.source)} is loaded by a script of its own ({shown(script)}), and data that runs code is not "
            "loaded. Look for a copy in Parquet, perhaps at revision refs/convert/parquet."
        )
    return info.id, info.sha


def _files(spec: DatasetSpec, builder: Any, home: str) -> list[str]:
    if not isinstance(builder, Parquet | Json | Csv):
        raise LabError(f"{shown(spec.source)} holds {builder.name} data, not Parquet, JSON or CSV. Choose another.")
    splits = builder.config.data_files or {}
    if spec.split not in splits:
        raise LabError(
            f"{shown(spec.source)} has no split {shown(spec.split)}; there are {listed([str(one) for one in splits])}."
        )
    files = [str(file) for file in splits[spec.split]]
    if not all(file.rpartition("::")[2].startswith(home) for file in files):
        raise LabError(
            f"The card of {shown(spec.source)} sends the reader to files outside the repository, and nobody "
            "follows it there. Choose another data set."
        )
    return files


def _streamed(builder: Any, split: str, wanted: list[range]) -> Iterator[Record]:
    end = max(part.stop for part in wanted)
    for index, value in enumerate(builder.as_streaming_dataset(split)):
        if is_wanted(index, wanted):
            yield Record(index, index + 1, value)
        if index + 1 >= end:
            return


def _explained(spec: DatasetSpec, records: Iterator[Record]) -> Iterator[Record]:
    """What goes wrong on the way, in words. The consumer's own errors do not pass through here."""
    while True:
        try:
            record = next(records, None)
        except Exception as error:
            raise _unreadable(error, spec) from error
        if record is None:
            return
        yield record


def _target(spec: DatasetSpec) -> Target:
    return Target(shown(spec.source), f"datasets/{spec.source}", "dataset", shown(spec.revision))


def _unreadable(error: BaseException, spec: DatasetSpec) -> LabError:
    """A sentence for any error of the libraries that read a repository's files: hostile files can raise anything."""
    name, said = shown(spec.source), str(error)
    with contextlib.suppress(type(error)):  # raised again: not an error of the Hub
        return explain(error, _target(spec))
    if isinstance(error, DataFilesNotFoundError) or "doesn't contain any data files" in said:
        return LabError(f"{name} has no data files (Parquet, JSON or CSV). Choose another dataset.")
    if "Config name is missing" in said or "BuilderConfig" in said:
        there = re.search(r"\[(.{0,300})", said)
        return LabError(
            f"{name} has several subsets{': ' + shown(there[1].rstrip(']')) if there else ''}. Write one of them under "
            "Subset."
        )
    words = shown(f"{type(error).__name__}: {said}"[:120])
    return LabError(f"{name} cannot be read as data: {words}. Look at its viewer on the Hub, or choose another.")
