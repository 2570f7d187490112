"""Lists the variants with their states: those of catalogue.toml, and the files in the weights folder.

models/tiny/<file>                     embedded: part of the repository
models/weights/<id>/<file>             a variant of the catalogue, after its download
models/weights/<id>/variant.json       the record of a variant that the library or an export installed
models/weights/<name>.gguf             a model that a person put there
models/weights/<name>@<base id>.gguf   a LoRA adapter that a person put there, with the variant it runs over
"""

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from models.check import BadFile, Header, read_header
from models.crash_marks import marked
from models.variant import Variant, identifier

HERE = Path(__file__).parent
TINY = HERE / "tiny"
State = Literal["embedded", "ready", "not downloaded", "arriving", "needs its base", "damaged", "crashes the loader"]


@dataclass(frozen=True)
class Entry:
    """A variant with its state. `model` and `adapter`: the files to load; both are None for a runtime without files."""

    variant: Variant
    state: State
    why: str = ""
    model: Path | None = None
    adapter: Path | None = None
    header: Header | None = None
    """The header of the variant's own file: for an adapter, the adapter's."""
    base_header: Header | None = None
    """For an adapter whose base is present: the base's header."""
    path: Path | None = None
    """The variant's own file, which may be missing or damaged."""

    @property
    def runs(self) -> bool:
        """Whether the variant can be loaded."""
        return self.state in ("embedded", "ready")


@lru_cache(maxsize=1)
def catalogue() -> tuple[Variant, ...]:
    """The variants of catalogue.toml, read once. Raises pydantic's ValidationError for a wrong entry."""
    text = (HERE / "catalogue.toml").read_text(encoding="utf-8")
    return tuple(Variant.model_validate(record) for record in tomllib.loads(text)["variant"])


def list_variants(weights: Path) -> list[Entry]:
    """Read all variants and their states from disk."""
    known, registered = list(_known(weights)), list(_registered(weights))
    entries = {variant.id: _entry(variant, path, weights) for variant, path in known}
    downloads = {variant.id for variant, _ in known if variant.repo}
    for variant, _ in registered:
        if variant.id in downloads:  # the record beside the file replaces the catalogue's entry
            entries.pop(variant.id, None)
    for variant, path in [*registered, *_unregistered(weights)]:
        name = _free_id(variant.id, entries)
        entries[name] = _entry(variant.model_copy(update={"id": name}), path, weights)
    return [_with_base(entry, entries) for entry in entries.values()]


def _known(weights: Path) -> Iterator[tuple[Variant, Path | None]]:
    for variant in catalogue():
        if not variant.file:
            yield variant, None
        else:
            yield variant, (weights / variant.id if variant.repo else TINY) / variant.file


def _registered(weights: Path) -> Iterator[tuple[Variant, Path | None]]:
    for record in sorted(weights.glob("*/variant.json")):
        try:
            variant = Variant.model_validate_json(record.read_bytes())
        except (OSError, ValueError) as error:
            yield _unreadable(record.parent.name, f"its variant.json cannot be read: {_first_line(error)}"), None
            continue
        yield variant, record.parent / Path(variant.file).name


def _unregistered(weights: Path) -> Iterator[tuple[Variant, Path | None]]:
    """GGUF files that lie directly in the weights folder."""
    for path in sorted(path for path in weights.glob("*") if path.suffix.lower() == ".gguf" and path.is_file()):
        if not _unicode(path.name):
            yield _unreadable(path.stem, "the name of this file is not valid Unicode. Rename the file"), None
            continue
        name, _, base = path.stem.partition("@")
        yield Variant(id=identifier(name), file=path.name, over=identifier(base) if base else ""), path


def _unreadable(name: str, why: str) -> Variant:
    return Variant(id=identifier(name), about=why, file="variant.json")


def _unicode(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name


def _free_id(name: str, taken: dict[str, Entry]) -> str:
    """`name`, or `name` with a number if another variant has that id."""
    if name not in taken:
        return name
    return next(f"{name}_{number}" for number in itertools.count(2) if f"{name}_{number}" not in taken)


def _entry(variant: Variant, path: Path | None, weights: Path) -> Entry:
    """Determine the state of a variant from its file. For an adapter, `_with_base` completes it."""
    if path is None:
        error = variant.about if variant.file else ""  # `_unreadable` puts the reason into `about`
        return Entry(variant, "damaged" if error else "embedded", error)
    try:
        if not path.is_file():
            return Entry(variant, "not downloaded", _how_to_get(variant, path), path=path)
        stat = path.stat()
        header = _header(path, stat.st_size, stat.st_mtime_ns)
        if isinstance(header, BadFile):
            raise header
    except (BadFile, OSError) as error:
        return Entry(
            variant, "damaged", f"{path.name} is not usable: {_first_line(error)}. Replace or remove it", path=path
        )
    variant = _completed(variant, header, stat.st_size)
    state: State = "embedded" if path.parent == TINY else "ready"
    why = ""
    if fault := marked(weights, path):
        state, why = fault
    if header.is_adapter:
        return Entry(variant, state, why, adapter=path, header=header, path=path)
    return Entry(variant, state, why, model=path, header=header, path=path)


def _how_to_get(variant: Variant, path: Path) -> str:
    if variant.repo:
        return f"download it from {variant.repo} on the Hub"
    return f"{path.name} is missing from its folder. Restore it (with git restore, if it is part of the repository)"


@lru_cache(maxsize=256)
def _header(path: Path, size: int, changed: int) -> Header | BadFile:
    """The header, or the error of reading it. It is read again only if the file has changed."""
    try:
        return read_header(path)
    except BadFile as error:
        return error


def _completed(variant: Variant, header: Header, size: int) -> Variant:
    """Complete the record with facts from the file."""
    facts = {
        "size": size,
        "quantisation": variant.quantisation or header.quantisation,
        "about": variant.about or header.name[:200],
        "method": "lora" if header.is_adapter and variant.method == "base" else variant.method,
        "licence": variant.licence if variant.licence != "unknown" else header.licence[:100],
    }
    return variant.model_copy(update=facts)


def _with_base(entry: Entry, entries: dict[str, Entry]) -> Entry:
    """Add the base to an adapter; the state is "needs its base" if the base is missing or does not fit."""
    if not entry.runs or entry.adapter is None:
        return entry
    over = entries.get(entry.variant.over)
    if not entry.variant.over:
        advice = f"rename it to {entry.adapter.stem}@BASE.gguf, where BASE is the id of the variant it was trained on"
        return replace(entry, state="needs its base", why=f"this is a LoRA adapter: {advice}")
    if over is None or over.model is None or not over.runs:
        return replace(entry, state="needs its base", why=f"it runs over {entry.variant.over}, which is not ready")
    if entry.header and over.header and (difference := _difference(entry.header, over.header)):
        return replace(
            entry, state="needs its base", why=f"it was made for another base than {over.variant.id}: {difference}"
        )
    return replace(entry, model=over.model, base_header=over.header)


def _difference(adapter: Header, base: Header) -> str:
    """The first difference between the base that the adapter's header describes and this base; empty if none."""
    facts = (
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
    )
    for fact in facts:
        expected, actual = adapter.keys.get(f"llama.{fact}"), base.keys.get(f"llama.{fact}")
        if expected is not None and actual is not None and expected != actual:
            return f"{fact} {expected} is not {actual}"
    return ""


def _first_line(error: BaseException) -> str:
    """An error in one line, without the path of the weights folder."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # str(error) contains the path
    return (str(error) or type(error).__name__).splitlines()[0][:200]
