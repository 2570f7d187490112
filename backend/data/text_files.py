"""Opens the text file of a dataset: plain, or one file in gzip or zip; in UTF-8, UTF-16, UTF-32 or Windows-1252.

The content decides, not the ending of the name. Memory stays small, also for a hostile archive: lines are bounded, and
so are the bytes that an archive may unpack to.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from backend.core.errors import LabError
from backend.data.dataset import shown

LARGEST_UNPACKED = 4_000_000_000  # bytes of a packed file
LONGEST_LINE = 16_000_000  # characters
SAMPLE = 1 << 16  # bytes from which the encoding and the format are detected
EXCERPT = 80  # characters of a damaged line in a message
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
OTHER_FORMATS = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"%PDF": "a PDF",
    b"SQLite format 3": "a database",
    b"ARROW1": "an Arrow file",
}
GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"


@dataclass(frozen=True)
class TextFile:
    """A text file, and how it is opened."""

    path: Path
    packing: str
    """gzip, zip, or empty."""
    encoding: str
    """Name of Python's codec."""
    sample: str
    """Its first characters."""
    complete: bool
    """Whether the sample is the whole file."""

    @property
    def name(self) -> str:
        """Its name in quotes, for a sentence."""
        return shown(self.path.name)

    @property
    def described(self) -> str:
        """Its encoding and packing for people, such as `UTF-16, unpacked from gzip`."""
        encoding = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252"}.get(self.encoding, self.encoding.upper())
        return f"{encoding}, unpacked from {self.packing}" if self.packing else encoding

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        """The text. Bytes that are not valid UTF-8 become lone surrogates, so that only their rows are dropped."""
        errors = "surrogateescape" if self.encoding in ("utf-8", "utf-8-sig", "cp1252") else "strict"
        with _unpacked(self.path, self.packing) as file:
            yield io.TextIOWrapper(file, encoding=self.encoding, errors=errors)


def describe(path: Path, encoding: str = "auto") -> TextFile:
    """Detect packing and encoding. `encoding` is used where no byte order mark says otherwise; auto: UTF-8.

    Raises LabError for formats that are not text, and for an archive without exactly one file.
    """
    with path.open("rb") as file:
        head = file.read(4)
    packing = "gzip" if head.startswith(GZIP) else "zip" if head.startswith(ZIP) else ""
    with _unpacked(path, packing) as unpacked:
        sample = unpacked.read(SAMPLE)
        complete = not unpacked.read(1)
    inside = f"{shown(path.name)} is" if not packing else f"The file in {shown(path.name)} is"
    for mark, what in (OTHER_FORMATS | {GZIP: "compressed with gzip", ZIP: "a zip archive"}).items():
        if sample.startswith(mark):
            raise LabError(f"{inside} {what}. Unpack it, or save it as CSV or JSON lines, then try again.")
    if packing and sample.startswith(PARQUET):
        raise LabError(f"{inside} a Parquet file. Unpack it, then try again: Parquet is compressed in itself.")
    codec = _codec(sample, encoding)
    errors = "replace" if codec.startswith("utf-16") or codec.startswith("utf-32") else "surrogateescape"
    return TextFile(path, packing, codec, sample.decode(codec, errors), complete)


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == PARQUET


def _codec(sample: bytes, encoding: str) -> str:
    for mark, codec in BYTE_ORDER_MARKS.items():
        if sample.startswith(mark):
            return codec
    even, odd = sample[::2].count(0), sample[1::2].count(0)  # letters of Latin text in UTF-16 have a NUL byte each
    if max(even, odd) * 5 > len(sample) and min(even, odd) * 20 < len(sample):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "cp1252" if encoding == "windows-1252" else "utf-8"


@contextmanager
def _unpacked(path: Path, packing: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, or of the one file in an archive. Raises LabError for damaged and for huge archives."""
    try:
        if packing == "gzip":
            with gzip.open(path) as file:
                yield _Bounded(file, path)  # type: ignore[misc]  # its methods are those that TextIOWrapper calls
        elif packing == "zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_file(archive, path)) as file:
                yield _Bounded(file, path)  # type: ignore[misc]
        else:
            with path.open("rb") as file:
                yield file
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise LabError(f"{shown(path.name)} is a damaged {packing} file ({error}). Pack it again.") from error
    except (RuntimeError, NotImplementedError) as error:  # zipfile raises them for passwords and rare methods
        raise LabError(f"{shown(path.name)} cannot be unpacked ({error}). Upload the file without packing.") from error


def _only_file(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of a zip archive; hidden files and those of macOS do not count."""
    names = [entry.filename for entry in archive.infolist()]
    if "[Content_Types].xml" in names:
        raise LabError(f"{shown(path.name)} is an Excel or Word file. Save the table as CSV (UTF-8), then try again.")
    files = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/") and Path(entry.filename).name[:1] != "."
    ]
    if len(files) != 1:
        some = ", ".join(shown(entry.filename) for entry in files[:5])
        listed = f" ({some}{', ...' if len(files) > 5 else ''})" if files else ""
        raise LabError(
            f"{shown(path.name)} has {len(files):,} files{listed}, and one is expected. Upload the one with the rows."
        )
    return files[0]


class _Bounded(io.BufferedIOBase):
    """The bytes of an unpacked file. Raises LabError after LARGEST_UNPACKED of them."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._file, self._path, self._count = file, path, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._counted(self._file.read(-1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self._counted(self._file.read(size if size > 0 else SAMPLE))

    def _counted(self, data: bytes) -> bytes:
        self._count += len(data)
        if self._count > LARGEST_UNPACKED:
            raise LabError(
                f"{shown(self._path.name)} unpacks to more than {LARGEST_UNPACKED:,} bytes, which is the limit. "
                "Unpack it and choose the unpacked file, or save fewer rows."
            )
        return data


def read_lines(file: TextIO, name: str) -> Iterator[str | None]:
    """Read line by line. Yields None for a line longer than LONGEST_LINE, which is skipped in little memory."""
    number = 0
    try:
        while line := file.readline(LONGEST_LINE):
            number += 1
            complete = len(line) < LONGEST_LINE or line.endswith("\n")
            yield line if complete else None
            while not complete and (line := file.readline(LONGEST_LINE)):
                complete = line.endswith("\n")
    except UnicodeError as error:
        raise invalid_encoding(file, name, number + 1) from error


def invalid_encoding(file: TextIO, name: str, line: int) -> LabError:
    return LabError(f"{name} is not valid {file.encoding.upper()} at or after line {line:,}. Save it as UTF-8.")


def is_text(text: str) -> bool:
    """Whether the text can be encoded as UTF-8, so has no lone surrogate (see `TextFile.open`)."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def excerpt(text: str, place: int = 0) -> str:
    """What is at a place of a damaged text, on one line, for a message. Bytes that are not UTF-8 are shown as ?."""
    start = max(0, place - EXCERPT // 2) if len(text) > EXCERPT else 0
    inside = text[start : start + EXCERPT].encode("utf-8", "replace").decode()
    plain = "".join(character if character.isprintable() else " " for character in inside).strip()
    return f"{'…' if start else ''}{plain}{'…' if start + EXCERPT < len(text.rstrip()) else ''}"


def as_windows_1252(text: str) -> str:
    """What a line with bytes that are not UTF-8 would be in Windows-1252, around the first such byte."""
    place = next((i for i, character in enumerate(text) if "\udc80" <= character <= "\udcff"), 0)
    start = max(0, place - EXCERPT // 2)
    inside = text[start : start + EXCERPT].encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return excerpt(inside)
