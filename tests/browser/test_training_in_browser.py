"""A person with a browser who trains: from a preset to a variant that answers in Chat and stands in Compare."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import App, start_app, stop_app
from playwright.sync_api import Browser, Page, expect
from support.browser import SLOW, ask, choose, picture
from support.runs import alive

from backend.jobs.run import runs_in

TRAINED = 420_000  # milliseconds that a preset of the toy may take on a slow machine
HABIT = re.compile(r'\{\s*"answer"')


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = start_app(tmp_path)
    yield app
    stop_app(app)


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    page.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    page.goto(app.url)
    yield page
    page.close()


def cell(page: Page, text: str) -> object:
    return page.get_by_role("gridcell", name=text, exact=True).first


def unfold(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(500)  # the controls of an accordion are made when it opens


def start(page: Page, preset: str, **settings: int) -> None:
    page.get_by_role("tab", name="Train").click()
    if preset != "tiny_lora":
        choose(page, "Preset", preset)
        expect(page.get_by_text(f"As in the preset {preset}.")).to_be_visible()
    if settings:
        unfold(page, "All settings")
    for label, value in settings.items():
        page.get_by_label(label, exact=True).fill(str(value))
        page.get_by_label(label, exact=True).press("Tab")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("tab", name="Runs")).to_have_attribute("aria-selected", "true")


def finished(page: Page) -> None:
    expect(page.get_by_role("button", name="Export to GGUF")).to_be_visible(timeout=TRAINED)


def export(page: Page, name: str, form: str = "") -> None:
    if form:
        choose(page, "Export as", form)
    page.get_by_role("button", name="Export to GGUF").click()
    expect(page.get_by_role("gridcell", name=f"{name} is in the Library")).to_be_visible(timeout=TRAINED)


def answers(page: Page, variant: str, question: str) -> None:
    page.get_by_role("tab", name="Chat").click()
    choose(page, "Variant", variant)
    ask(page, question)
    expect(page.get_by_label("Conversation").get_by_text(HABIT).last).to_be_visible()


def test_a_training_is_started_and_stopped(page: Page, app: App) -> None:
    """What the page does, without waiting for torch. Whole trainings: tests/training, and the long tests below."""
    start(page, "tiny_lora", Steps=2)
    expect(page.get_by_role("gridcell", name="my_tiny_lora").first).to_be_visible()
    (run,) = runs_in(app.home / "runs", "train")
    assert (run.spec.asked["spec"]["steps"], run.spec.asked["spec"]["method"]) == (2, "lora")
    page.get_by_role("button", name="Stop and save").click()
    expect(page.get_by_role("gridcell", name="stopped", exact=True)).to_be_visible()
    assert (run.state, alive(run)) == ("stopped", [])


@pytest.mark.long
def test_from_a_preset_to_a_variant_that_answers_beside_its_base(page: Page, app: App) -> None:
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Inspect dataset").click()
    expect(page.get_by_text("in the training split and 60 in the eval split")).to_be_visible()
    expect(page.get_by_text("Rows as the model sees them")).to_be_visible()
    picture(page, "train")
    start(page, "tiny_lora")
    expect(page.get_by_role("gridcell", name="training")).to_be_visible(timeout=TRAINED)
    expect(page.get_by_text("my_tiny_lora, eval split")).to_be_visible()
    picture(page, "runs-training")

    page.reload()  # the page is only a view: what runs goes on
    page.get_by_role("tab", name="Runs").click()
    finished(page)
    picture(page, "runs-done")
    export(page, "my_tiny_lora")
    answers(page, "my_tiny_lora", "What is the capital of France?")
    picture(page, "chat-trained")

    page.get_by_role("tab", name="Compare").click()
    choose(page, "Variant A", "tiny_base")
    choose(page, "Variant B", "my_tiny_lora")
    page.get_by_label("Prompt for all").fill("What is the capital of Italy?")
    page.get_by_role("button", name="Send to all").click()
    expect(page.get_by_text(HABIT).last).to_be_visible()
    picture(page, "compare-trained")

    page.get_by_role("tab", name="Judge").click()
    choose(page, "Variants to evaluate", "my_tiny_lora")
    page.get_by_label("Variants to evaluate").press("Escape")
    choose(page, "Rows", "Eval split of my_tiny_lora")
    page.get_by_role("button", name="Start evaluation").click()
    sentence = page.locator("#verdict")
    expect(sentence).to_contain_text("my_tiny_lora is better than tiny_base by 0.", timeout=TRAINED)
    expect(sentence).to_contain_text("60 rows")
    expect(page.get_by_role("gridcell", name="my_tiny_lora − tiny_lora")).to_be_visible()
    picture(page, "judge-trained")

    page.get_by_role("tab", name="Runs").click()
    choose(page, "Run", "my_tiny_lora")
    record = json.loads((app.home / "weights" / "my_tiny_lora" / "variant.json").read_text())
    assert (record["base"], record["method"], record["quantisation"]) == ("tiny_base", "lora", "Q4_K_M")


@pytest.mark.long
def test_a_quantised_base_is_trained_and_its_adapter_runs_over_the_whole_one(page: Page, app: App) -> None:
    start(page, "tiny_qlora")
    finished(page)
    export(page, "my_tiny_qlora_adapter", "adapter, used with its base")
    answers(page, "my_tiny_qlora_adapter", "What is the capital of France?")
    record = json.loads((app.home / "weights" / "my_tiny_qlora_adapter" / "variant.json").read_text())
    assert (record["over"], record["method"]) == ("tiny_base", "qlora")


@pytest.mark.long
def test_a_training_is_stopped_the_app_restarted_and_the_training_resumed_to_its_end(
    browser: Browser, tmp_path: Path
) -> None:
    expect.set_options(timeout=SLOW)
    app = start_app(tmp_path)
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    page.goto(app.url)
    start(page, "tiny_lora", Steps=60)
    expect(page.get_by_text(re.compile(r"Step [1-9]\d*/60"))).to_be_visible(timeout=TRAINED)
    page.get_by_role("button", name="Stop and save").click()
    expect(page.get_by_text(re.compile(r"It can be resumed from step [1-9]"))).to_be_visible(timeout=TRAINED)
    picture(page, "runs-stopped")
    page.close()
    stop_app(app)

    app = start_app(tmp_path)
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    page.goto(app.url)
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("button", name="Resume").click()
    finished(page)
    expect(page.get_by_text("Step 60/60")).to_be_visible()
    page.close()
    stop_app(app)
