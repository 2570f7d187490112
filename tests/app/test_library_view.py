"""How the Library reads: rows, progress, files of a repository."""

import time
from html import unescape

import pytest

from app.library import view as library_view
from backend.hub.listing import RepositoryFile, RepositoryListing
from backend.inference.engine import LoadedModel
from backend.library.describe import VariantDetails
from backend.library.status import SpeedResult, TransferStatus
from models.catalogue import Entry
from models.variant import Variant

GB = 10**9
HERE = Entry(Variant(id="plain", about="here", over="tuned"), "embedded")
AWAY = Entry(Variant(id="away", about="not yet", size=GB), "not downloaded", "it lies elsewhere")
BROKEN = Entry(Variant(id="broken", about="was here"), "damaged", "x.gguf is not usable: it is a web page")
COMING = Entry(Variant(id="coming"), "arriving", "downloading 43 %")


def moving(**facts: object) -> TransferStatus:
    return TransferStatus(**{"id": "r", "kind": "download", "name": "x", "variant": "x", "state": "running"} | facts)  # type: ignore[arg-type]


def test_those_that_run_come_first_and_the_others_say_what_to_do() -> None:
    rows = library_view.library([AWAY, BROKEN, COMING, HERE], lambda entry: 2 * entry.variant.size)
    assert [row[0] for row in rows] == ["plain", "away", "broken", "coming"]
    assert [row[1] for row in rows] == ["embedded", "not downloaded", "damaged", "downloading 43 %"]
    assert [row[2] for row in rows] == ["here", "not yet", BROKEN.why, ""]
    assert rows[1][5] == "2.0 GB"
    assert {len(row) for row in rows} == {len(library_view.LIBRARY)} == {len(library_view.WIDTHS)}


def test_a_transfer_says_how_far_it_is_how_fast_and_how_long() -> None:
    one = moving(progress={"state": "downloading"}, done=347_000_000, total=807_000_000, speed=12_000_000.0, left=38.0)
    (row,) = library_view.transfers([one])
    assert row == ["download x", "downloading", "█████░░░░░░░ 43% · 347.0 MB of 807.0 MB", "12.0 MB/s", "38 s", ""]
    assert len(row) == len(library_view.TRANSFERS)


def test_an_ended_transfer_says_why() -> None:
    (row,) = library_view.transfers([moving(state="failed", why="The disk is full.", done=1, total=2, speed=5.0)])
    assert row == ["download x", "failed", "", "", "", "The disk is full."]


@pytest.mark.parametrize(
    ("kind", "result", "words"),
    [
        (
            "download",
            {"size": 2 * GB, "seconds": 41.2, "from_cache": False},
            "2.0 GB in 41 s; its sha256 is that of the Hub",
        ),
        ("download", {"size": 1, "seconds": 1, "from_cache": True}, "in the Hugging Face cache already"),
        ("verify", {"ok": True}, "its sha256 has not changed"),
        ("speed", {"generation_speed": 9.51, "prompt_speed": 80.0}, "generation 9.5 tokens/s, prompt 80.0"),
        ("bring", {}, ""),
    ],
)
def test_what_is_done_says_what_came_of_it(kind: str, result: dict[str, object], words: str) -> None:
    (row,) = library_view.transfers([moving(kind=kind, state="done", result=result)])
    assert words in row[-1]


def test_only_what_lives_can_be_cancelled() -> None:
    found = [moving(), moving(id="q", state="queued", kind="verify"), moving(id="d", state="done")]
    assert library_view.live(found) == [("download x", "r"), ("verify x", "q")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")]
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert library_view.duration(seconds) == text


def test_a_loaded_model_says_since_when_and_whether_it_is_used() -> None:
    now = time.time()
    idle = LoadedModel("a", 1, GB, now - 120, now - 60, 0, True)
    busy = LoadedModel("b", 2, GB, now - 120, now - 60, 3, False)
    assert library_view.loaded([idle, busy]) == [
        ["a", "ready", "1.0 GB", "2 min", "60 s", ""],
        ["b", "loading", "1.0 GB", "2 min", "in use", "3"],
    ]


LISTING = RepositoryListing(
    repo="owner/name",
    revision="main",
    commit="a" * 40,
    kind="gguf",
    licence="mit <b>",
    gated=True,
    left_out=3,
    files=(
        RepositoryFile(path="big.gguf", size=8 * GB, quantisation="F16"),
        RepositoryFile(path="small.gguf", size=GB, quantisation="Q4_K_M"),
        RepositoryFile(path="huge.gguf", size=900 * GB),
        RepositoryFile(path="part-00001-of-00002.gguf", size=1, why="it is one part of several"),
    ),
)


def test_a_file_says_whether_it_fits_this_machine() -> None:
    options = dict(
        (path, text) for text, path in library_view.files(LISTING, 4 * GB, 50 * GB, lambda size: size + size // 2)
    )
    assert list(options) == ["small.gguf", "big.gguf", "huge.gguf", "part-00001-of-00002.gguf"]
    assert options["small.gguf"] == "small.gguf · Q4_K_M · 1.0 GB · ✓ fits (about 1.5 GB of memory)"
    assert "✗ needs about 12.0 GB of memory" in options["big.gguf"]
    assert "✗ not enough free disk space" in options["huge.gguf"]
    assert "✗ it is one part of several" in options["part-00001-of-00002.gguf"]


def test_a_listing_says_what_it_is_and_nothing_in_it_acts() -> None:
    text = library_view.listing(LISTING, 4 * GB, 50 * GB)
    assert "**owner/name** at main (commit aaaaaaaaaaaa): GGUF models" in unescape(text)
    assert "gated" in text and "3 other files" in text and "<b>" not in text and "mit <b>" in unescape(text)


def test_a_description_leaves_out_what_is_not_known() -> None:
    found = VariantDetails(
        id="x", state="damaged", why="it is <img>", page="https://hub/o/n", facts={"Licence": "mit", "Base": ""}
    )
    assert library_view.description(found) == (
        "**x** · damaged&#58; it is &#60;img&#62;\n- Licence: mit\n- [Its page on the Hub](https://hub/o/n)"
    )


def test_a_page_that_is_no_address_is_not_linked() -> None:
    found = VariantDetails(id="x", state="ready", why="", page="https://hub/o/n) [x](javascript:alert(1)")
    assert "](" not in library_view.description(found)


def test_a_speed_stands_under_its_headings() -> None:
    speed = SpeedResult(id="x", quantisation="Q8_0", size=GB, prompt_speed=101.26, generation_speed=9.5, memory=GB,
                  prompt=512, generate=64, repeats=3, threads=2, machine="a processor", at=0)  # fmt: skip
    (row,) = library_view.speeds([speed])
    assert row[:7] == ["x", "Q8_0", "1.0 GB", "101.3", "9.5", "1.0 GB", "2"] and len(row) == len(library_view.SPEEDS)
