"""Reads datasets of the Hub at a pinned commit. Imports `datasets`: for workers only.

`datasets` reads the card and lists subsets, splits and files of a repository. It also streams JSON and CSV files.
Parquet files are read by `parquet`, which skips row groups: 1,000 rows do not download 100,000.
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
from backend.data.formats import in_ranges
from backend.data.rows import Record
from backend.hub.errors import Target, explain

TIMEOUT = 20.0  # seconds for one response of the Hub
RETRIES = 1  # of `datasets` per request: the client below it has already tried six times by then


@dataclass(frozen=True)
class HubDataset:
    """A dataset at one commit, with the files of one split."""

    commit: str
    builder: Any
    files: list[str]


def records(spec: DatasetSpec, ranges: list[range]) -> tuple[str, Iterator[Record]]:
    """Return the commit, and the records whose index is in `ranges`. Raises LabError, also while iterating."""
    prepare()
    dataset = find(spec)
    if isinstance(dataset.builder, Parquet):
        files = [(file.rpartition("/")[2], fsspec.open(file, "rb").open) for file in dataset.files]
        return dataset.commit, _with_lab_errors(spec, parquet.read(files, ranges))
    return dataset.commit, _with_lab_errors(spec, _stream(dataset.builder, spec.split, ranges))


def prepare() -> None:
    """Configure the clients: downloads without Xet, no progress bars, few retries."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = RETRIES


def find(spec: DatasetSpec) -> HubDataset:
    """Get the commit and the files of the split. Raises LabError if the dataset is missing, gated or unreadable."""
    try:
        info = HfApi().dataset_info(spec.source, revision=spec.revision or None, timeout=TIMEOUT)
        if info.gated:
            HfApi().auth_check(spec.source, repo_type="dataset")
    except Exception as error:
        raise explain(error, _target(spec)) from error
    repo, commit = _check_repository(spec, info)
    try:
        # hf:// prevents that `datasets` reads a local folder of the same name
        builder = datasets.load_dataset_builder(f"hf://datasets/{repo}", spec.subset or None, revision=commit)
    except Exception as error:
        raise _to_lab_error(error, spec) from error
    return HubDataset(commit, builder, _files_of_split(spec, builder, f"hf://datasets/{repo}@{commit}/"))


def _check_repository(spec: DatasetSpec, info: DatasetInfo) -> tuple[str, str]:
    """Return the name on the Hub and the commit. Raises LabError for a repository with a loading script."""
    if not info.sha or not REPO.fullmatch(info.id):
        raise LabError("The server is not the Hub: its response has no commit. Check HF_ENDPOINT, then try again.")
    script = info.id.rpartition("/")[2] + ".py"
    if any(sibling.rfilename == script for sibling in info.siblings or []):
        raise LabError(
            f"{shown(spec.source)} needs its own loading script ({shown(script)}), and datasets that run code are not "
            "loaded. Look for a copy in Parquet, for example at revision refs/convert/parquet."
        )
    return info.id, info.sha


def _files_of_split(spec: DatasetSpec, builder: Any, root: str) -> list[str]:
    """The files of the split. Raises LabError for other formats, a missing split, or files outside `root`."""
    if not isinstance(builder, Parquet | Json | Csv):
        raise LabError(f"{shown(spec.source)} has {builder.name} files, not Parquet, JSON or CSV. Choose another.")
    splits = builder.config.data_files or {}
    if spec.split not in splits:
        names = listed([str(name) for name in splits])
        raise LabError(f"{shown(spec.source)} has no split {shown(spec.split)}. Choose one of {names}.")
    files = [str(file) for file in splits[spec.split]]
    if not all(file.rpartition("::")[2].startswith(root) for file in files):
        raise LabError(
            f"The card of {shown(spec.source)} refers to files outside the repository, which are not read. Choose "
            "another dataset."
        )
    return files


def _stream(builder: Any, split: str, ranges: list[range]) -> Iterator[Record]:
    end = max(part.stop for part in ranges)
    for index, value in enumerate(builder.as_streaming_dataset(split)):
        if in_ranges(index, ranges):
            yield Record(index, index + 1, value)
        if index + 1 >= end:
            return


def _with_lab_errors(spec: DatasetSpec, records: Iterator[Record]) -> Iterator[Record]:
    """Convert errors of reading into LabError. Errors of the consumer are not affected."""
    while True:
        try:
            record = next(records, None)
        except Exception as error:
            raise _to_lab_error(error, spec) from error
        if record is None:
            return
        yield record


def _target(spec: DatasetSpec) -> Target:
    return Target(shown(spec.source), f"datasets/{spec.source}", "dataset", shown(spec.revision))


def _to_lab_error(error: BaseException, spec: DatasetSpec) -> LabError:
    """Explain any error of the libraries that read a repository's files: hostile files can raise anything."""
    name, text = shown(spec.source), str(error)
    with contextlib.suppress(type(error)):  # `explain` raises the error again if it is not one of the Hub
        return explain(error, _target(spec))
    if isinstance(error, DataFilesNotFoundError) or "doesn't contain any data files" in text:
        return LabError(f"{name} has no data files (Parquet, JSON or CSV). Choose another dataset.")
    if "Config name is missing" in text or "BuilderConfig" in text:
        subsets = re.search(r"\[(.{0,300})", text)
        return LabError(
            f"{name} has several subsets{': ' + shown(subsets[1].rstrip(']')) if subsets else ''}. Enter one of them "
            "under Subset."
        )
    cause = shown(f"{type(error).__name__}: {text}"[:120])
    return LabError(f"{name} cannot be read as a dataset: {cause}. Check its viewer on the Hub, or choose another.")
