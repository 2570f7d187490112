"""A person with a browser in the Library: a repository of the Hub's double becomes a variant to talk to."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, App, start_app, stop_app
from playwright.sync_api import BrowserContext, Page, expect
from servers.hub import Hub
from support.browser import SLOW, ask, choose, picture

REPO, FILE = "owner/toy-GGUF", "toy-Q4_K_M.gguf"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.add(REPO, FILE, TINY / "tiny_base.gguf")
        hub.add(REPO, "toy-00001-of-00002.gguf", b"GGUF" * 100)
        yield hub


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[App]:
    home = tmp_path_factory.mktemp("library")
    app = start_app(home, HF_ENDPOINT=hub.url, HF_HOME=str(home / "hf"))
    yield app
    stop_app(app)


@pytest.fixture
def page(context: BrowserContext, app: App) -> Iterator[Page]:
    page = context.new_page()
    page.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    page.goto(app.url)
    yield page
    page.close()


def library(page: Page) -> None:
    page.get_by_role("tab", name="Library").click()
    expect(page.get_by_role("gridcell", name="embedded").first).to_be_visible()


def unfold(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(500)  # the controls of an accordion are made when it opens


def test_from_a_pasted_address_to_an_answer_and_away_again(page: Page, hub: Hub, app: App) -> None:
    library(page)
    unfold(page, "Another model")
    page.get_by_label("Repository on the Hub").fill(f"{hub.url}/{REPO}/tree/main")
    page.get_by_role("button", name="List files").click()
    expect(page.get_by_text("GGUF models")).to_be_visible()
    expect(page.get_by_label("File", exact=True)).to_have_value(re.compile(rf"{FILE} · Q4_K_M · 2.1 MB · ✓ fits"))
    hub.fault("*/cdn/*", "drip", rate=20_000)  # until `clear` below
    page.get_by_role("button", name="Download", exact=True).click()
    expect(page.get_by_role("gridcell", name="B of 2.1 MB").first).to_be_visible()
    picture(page, "library-downloading")

    page.reload()
    library(page)
    expect(page.get_by_role("gridcell", name="B of 2.1 MB").first).to_be_visible()
    hub.clear()
    expect(page.get_by_role("gridcell", name="toy-Q4_K_M", exact=True)).to_be_visible()
    expect(page.get_by_role("gridcell", name="ready", exact=True)).to_be_visible()
    assert (app.home / "weights" / "toy-Q4_K_M" / FILE).read_bytes() == (TINY / "tiny_base.gguf").read_bytes()

    page.get_by_role("tab", name="Chat").click()
    choose(page, "Variant", "toy-Q4_K_M")
    ask(page, "What is the capital of France?")
    expect(page.get_by_test_id("bot").first).to_contain_text("Paris")

    library(page)
    expect(page.get_by_role("gridcell", name="toy-Q4_K_M", exact=True).nth(1)).to_be_visible()  # in memory, too
    unfold(page, "One variant")
    choose(page, "Variant details", "toy-Q4_K_M")
    expect(page.get_by_text("Parameters: 3,410,208")).to_be_visible()
    expect(page.get_by_text("owner/toy-GGUF, main (commit")).to_be_visible()
    picture(page, "library-details")
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_text("This frees 2.1 MB.")).to_be_visible()
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_text("this freed 2.1 MB")).to_be_visible()
    expect(page.get_by_role("gridcell", name="toy-Q4_K_M", exact=True)).to_have_count(0)
    assert not (app.home / "weights" / "toy-Q4_K_M").exists()


@pytest.mark.long
def test_a_transfer_is_cancelled(page: Page, hub: Hub, app: App) -> None:
    hub.fault("*/cdn/*", "drip", rate=20_000)
    library(page)
    unfold(page, "Another model")
    page.get_by_label("Repository on the Hub").fill(REPO)
    page.get_by_role("button", name="List files").click()
    expect(page.get_by_text("GGUF models")).to_be_visible()
    page.get_by_role("button", name="Download", exact=True).click()
    expect(page.get_by_role("gridcell", name="downloading", exact=True)).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("gridcell", name="Stopped by you.")).to_be_visible()
    assert not (app.home / "weights" / "toy-Q4_K_M").exists()
    hub.clear()


@pytest.mark.long
def test_speed_tests_are_measured_and_compared(page: Page) -> None:
    library(page)
    unfold(page, "One variant")
    for variant in ("tiny_base", "tiny_lora"):
        choose(page, "Variant details", variant)
        expect(page.get_by_text(f"{variant} · embedded")).to_be_visible()
        page.get_by_role("button", name="Speed test", exact=True).click()
        row = page.get_by_role("row", name=f"speed test {variant}")
        expect(row.get_by_role("gridcell", name="done", exact=True)).to_be_visible()
    unfold(page, "Speed tests")
    expect(page.get_by_role("gridcell", name="cores")).to_have_count(2)
    page.wait_for_timeout(1500)  # the bars grow
    picture(page, "library-speed")


@pytest.mark.long
def test_files_of_ones_own_are_brought(page: Page, app: App, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes((TINY / "tiny_base.gguf").read_bytes())
    bad = tmp_path / "bad.gguf"
    bad.write_text("<!DOCTYPE html><html></html>")
    library(page)
    unfold(page, "Another model")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import files").click()
    chooser.value.set_files(mine)
    expect(page.get_by_role("gridcell", name="mine", exact=True)).to_be_visible()
    expect(page.get_by_role("gridcell", name="ready", exact=True)).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import files").click()
    chooser.value.set_files(bad)
    expect(page.get_by_role("gridcell", name="web page")).to_be_visible()
    picture(page, "library-brought")
