"""Which variants exist and in what state: the catalogue, and what lies in `weights/`.

models/tiny/<file>                     embedded: shipped with the repository
models/weights/<id>/<file>             a catalogue variant, once it is here
models/weights/<id>/variant.json       a variant registered by its own record
models/weights/<name>.gguf             a model somebody dropped
models/weights/<name>@<base id>.gguf   a LoRA somebody dropped, with the variant it runs over
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
State = Literal["embedded", "ready", "not here", "arriving", "needs its base", "damaged", "crashes the loader"]


@dataclass(frozen=True)
class Entry:
    """A variant and how it stands. `model` and `adapter` are files to load; both None for a runtime without any."""

    variant: Variant
    state: State
    why: str = ""
    model: Path | None = None
    adapter: Path | None = None
    header: Header | None = None
    """Of the file itself: for an adapter, the adapter's."""
    base_header: Header | None = None
    """For an adapter that has found its base: the base's."""
    path: Path | None = None
    """The variant's own file, whether or not it is there or is any good."""

    @property
    def runs(self) -> bool:
        return self.state in ("embedded", "ready")


def catalogue() -> list[Variant]:
    """The variants of catalogue.toml. A wrong entry is an error of ours: pydantic says where."""
    text = (HERE / "catalogue.toml").read_text(encoding="utf-8")
    return [Variant.model_validate(record) for record in tomllib.loads(text)["variant"]]


def look(weights: Path) -> list[Entry]:
    """Every variant with its state, read from disk now. Adapters are settled last, when their bases are known."""
    known, registered = list(_known(weights)), list(_registered(weights))
    entries = {variant.id: _state(variant, path, weights) for variant, path in known}
    downloads = {variant.id for variant, _ in known if variant.repo}
    for variant, _ in registered:
        if variant.id in downloads:  # its own record may say more than the catalogue
            entries.pop(variant.id, None)
    for variant, path in [*registered, *_dropped(weights)]:
        name = _free(variant.id, entries)
        entries[name] = _state(variant.model_copy(update={"id": name}), path, weights)
    return [_seated(entry, entries) for entry in entries.values()]


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
            yield _unreadable(record.parent.name, f"its variant.json cannot be read: {_first(error)}"), None
            continue
        yield variant, record.parent / Path(variant.file).name


def _dropped(weights: Path) -> Iterator[tuple[Variant, Path | None]]:
    for path in sorted(path for path in weights.glob("*") if path.suffix.lower() == ".gguf" and path.is_file()):
        if not _unicode(path.name):
            yield _unreadable(path.stem, "the name of this file is not Unicode, so it cannot be shown. Rename it"), None
            continue
        name, _, base = path.stem.partition("@")
        yield Variant(id=identifier(name), file=path.name, over=identifier(base) if base else ""), path


def _unreadable(name: str, why: str) -> Variant:
    return Variant(id=identifier(name), about=why, file="variant.json")


def _unicode(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name


def _free(name: str, taken: dict[str, Entry]) -> str:
    """The id itself, unless another file has it already."""
    if name not in taken:
        return name
    return next(f"{name}_{number}" for number in itertools.count(2) if f"{name}_{number}" not in taken)


def _state(variant: Variant, path: Path | None, weights: Path) -> Entry:
    if path is None:
        broken = variant.about if variant.file else ""
        return Entry(variant, "damaged" if broken else "embedded", broken)
    try:
        if not path.is_file():
            return Entry(variant, "not here", _how_to_get(variant, path), path=path)
        stat = path.stat()
        header = _header(path, stat.st_size, stat.st_mtime_ns)
        if isinstance(header, BadFile):
            raise header
    except (BadFile, OSError) as error:
        return Entry(variant, "damaged", f"{path.name} is not usable: {_first(error)}. Replace or remove it", path=path)
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
        return f"not downloaded yet; it lies at {variant.repo} on the Hub"
    return f"{path.name} is missing from its folder. Put it back (git restore, if it came with the repository)"


@lru_cache(maxsize=256)
def _header(path: Path, size: int, changed: int) -> Header | BadFile:
    """The header, or what is wrong with it; read again only when the file has changed."""
    try:
        return read_header(path)
    except BadFile as error:
        return error


def _completed(variant: Variant, header: Header, size: int) -> Variant:
    """The record, with what only the file knows."""
    facts = {
        "size": size,
        "quantisation": variant.quantisation or header.quantisation,
        "about": variant.about or header.name[:200],
        "method": "lora" if header.is_adapter and variant.method == "base" else variant.method,
        "licence": variant.licence if variant.licence != "unknown" else header.licence[:100],
    }
    return variant.model_copy(update=facts)


def _seated(entry: Entry, entries: dict[str, Entry]) -> Entry:
    """An adapter with the weights it runs over, if they are here and are what it was made for."""
    if not entry.runs or entry.adapter is None:
        return entry
    over = entries.get(entry.variant.over)
    if not entry.variant.over:
        how = f"rename it to {entry.adapter.stem}@BASE.gguf, BASE being the id of the variant it was trained on"
        return replace(entry, state="needs its base", why=f"this is a LoRA adapter: {how}")
    if over is None or over.model is None or not over.runs:
        return replace(entry, state="needs its base", why=f"it runs over {entry.variant.over}, which is not ready")
    if entry.header and over.header and (unlike := _unlike(entry.header, over.header)):
        return replace(
            entry, state="needs its base", why=f"it was made for another base than {over.variant.id}: {unlike}"
        )
    return replace(entry, model=over.model, base_header=over.header)


def _unlike(adapter: Header, base: Header) -> str:
    """What the two headers disagree on, as far as the adapter says anything of its base; empty if nothing."""
    facts = (
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
    )
    for fact in facts:
        wanted, found = adapter.keys.get(f"llama.{fact}"), base.keys.get(f"llama.{fact}")
        if wanted is not None and found is not None and wanted != found:
            return f"{fact} {wanted} is not {found}"
    return ""


def _first(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # its text names the folder
    return (str(error) or type(error).__name__).splitlines()[0][:200]
