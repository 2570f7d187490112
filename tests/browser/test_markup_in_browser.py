"""What models, files and judges say, in a real Chromium: it is shown, and nothing of it acts."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, App, start_app, stop_app
from playwright.sync_api import Browser, Page, expect
from servers.judge import GRADE, JudgeServer, graded
from support.browser import SLOW, ask, choose, outside
from support.gguf_layout import TEXT, Key, miniature
from support.payloads import BLOCKS, FENCES, FORM, IMG, LINKS, LOOK, PAYLOADS, TAGS
from support.run_folders import written
from support.session import until

from backend.core.messages import plain

KEY = "sk-canary-0123456789abcdefghij"
CODE = '#include <stdio.h>\nint main(void) {\n\tif (1 < 2 && 3 > 2) puts("<b>yes</b>");\n}\n\n  return 0;'
ENTITIES = "In HTML, write &lt;br&gt; for a break, &amp;copy; is not &copy;, and a < b stays a < b."


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    """Its evidence is payloads, others each time."""
    with JudgeServer() as server:

        def rule(body: dict[str, Any]) -> Any:
            some = batches(TAGS, 6)
            said = some[server.calls % len(some)]
            return graded(json.dumps(GRADE | {"evidence": said}), model=body["model"])

        server.rule = rule
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, judge: JudgeServer) -> Iterator[App]:
    """With a model and a training whose texts are payloads."""
    home = tmp_path_factory.mktemp("hostile")
    hostile_model(home / "weights" / "hostile")
    hostile_run(home / "runs")
    app = start_app(home, JUDGE_BASE_URL=judge.url, OPENAI_API_KEY=KEY, JUDGE_FREE="1")
    yield app
    stop_app(app)


def hostile_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    made = miniature(IMG.encode())
    made.keys += [Key(f"note.{n} {text}"[:60].encode(), TEXT, text.encode()) for n, text in enumerate(TAGS)]
    (folder / "hostile.gguf").write_bytes(made.bytes())
    words = ["about", "licence", "base", "quantisation", "repo", "revision", "commit", "template"]
    record = {name: "\n".join(PAYLOADS[n :: len(words)]) for n, name in enumerate(words)}
    (folder / "variant.json").write_text(json.dumps({"id": "hostile", "file": "hostile.gguf"} | record))
    speaking = folder.with_name("speaking")
    speaking.mkdir()
    shutil.copy(TINY / "tiny_base.gguf", speaking)
    record = {"id": "speaking", "file": "tiny_base.gguf", "about": "\n".join(PAYLOADS), "quantisation": FORM}
    (speaking / "variant.json").write_text(json.dumps(record))


def hostile_run(runs: Path) -> None:
    folder = written(runs, "train", "20260101-000000-000")
    everything = "\n".join(PAYLOADS)
    rewritten(folder / "spec.json", name=FORM)
    rewritten(folder / "exit.json", why=everything[:10_000])
    rewritten(folder / "adapter" / "made.json", template=everything, base=IMG, machine=FORM, engine=IMG)
    with (folder / "events.jsonl").open("a") as file:
        said = {"said": PAYLOADS, "state": FORM, "tracked": "https://evil.example/) [x](javascript:x)"}
        file.write(json.dumps({"kind": "step", "at": 1, "facts": said}) + "\n")


def rewritten(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    yield from opened(browser, app.url)


def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A page that asks no other machine for anything, opens no dialog and ends without what does not belong in it."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 960}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    page.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda one: trouble.append(one.url) if outside(one.url, url) or "file=" in one.url else None)
    page.goto(url)
    expect(page.locator("footer")).to_be_visible()
    page.wait_for_timeout(1000)
    assert page.evaluate(LOOK) == []
    yield page
    page.wait_for_timeout(500)
    assert page.evaluate(LOOK) == []
    assert trouble == []
    context.close()


def unfold(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(500)  # the controls of an accordion are made when it opens


def shown(text: str) -> str:
    """The text of a payload as a conversation keeps it."""
    return plain(text)


def batches(texts: list[str], size: int) -> list[str]:
    return ["\n\n".join(texts[at : at + size]) for at in range(0, len(texts), size)]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of tests/support/gallery.py."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "GRADIO_ANALYTICS_ENABLED": "False"}
    log = tmp_path_factory.mktemp("gallery") / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "tests/support/gallery.py", str(port)],
            cwd=ROOT,
            env=os.environ | paths,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: process.poll() is not None or reached(port), 60)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def reached(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_component_shows_every_payload_and_does_nothing_else(browser: Browser, gallery: str) -> None:
    for page in opened(browser, gallery):
        asked = page.get_by_test_id("user").locator("pre.text")
        expect(asked).to_have_count(len(PAYLOADS))
        assert asked.evaluate_all("(all) => all.map((one) => one.textContent)") == [shown(text) for text in PAYLOADS]
        failed = page.get_by_test_id("bot").locator(".note.failed")
        read = "(all) => all.map((one) => one.textContent)"
        assert failed.evaluate_all(read) == [f"⚠ {shown(text)}" for text in PAYLOADS]
        labels = page.get_by_test_id("user").evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
        assert labels == [f"user's message: {shown(text)}" for text in PAYLOADS]
        expect(page.locator("#markdown h2")).to_have_count(len(PAYLOADS))
        expect(page.locator("#markdown")).to_contain_text(IMG)
        expect(page.locator("svg.main-svg .legendtext").filter(has_text="<img src=http://evil").first).to_be_attached()
        expect(page.get_by_role("gridcell", name=IMG).first).to_be_attached()
        page.get_by_label("Choice").click()
        expect(page.get_by_role("option", name=FORM, exact=True)).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Toasts").click()
        expect(page.get_by_test_id("toast-body").first).to_be_visible()
        page.wait_for_timeout(1500)
        told = page.get_by_test_id("toast-text").all_text_contents()
        assert len(set(told) & {shown(text) for text in PAYLOADS}) > len(PAYLOADS) / 2
        page.get_by_role("button", name="Error").click()
        expect(page.get_by_test_id("toast-text").filter(has_text="#include").first).to_be_visible()


def test_a_question_comes_back_by_copying_and_editing_to_the_letter(page: Page) -> None:
    choose(page, "Variant", "echo")
    for count, text in enumerate(
        (CODE, ENTITIES, FORM, "\ttab\n\n  <b>two</b>  spaces", '<div class="said" data-text="x">')
    ):
        ask(page, text)
        expect(page.locator(".note.facts")).to_have_count(count + 1)
        assert page.get_by_test_id("user").last.locator("pre.text").text_content() == text
        copy = page.get_by_role("button", name=re.compile("Cop(y|ied) message"))
        expect(copy).to_have_count(2 * count + 2)
        copy.nth(2 * count).click()
        expect_copied(page, text)
        copy.last.click()
        expect_copied(page, "".join(f"{word} " for word in text.split()))
    page.get_by_role("button", name="Edit").last.click()
    box = page.locator("textarea.edit-textarea")
    expect(box).to_have_value('<div class="said" data-text="x">')
    box.fill(CODE)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_test_id("user").last).to_contain_text("#include")
    assert page.get_by_test_id("user").last.locator("pre.text").text_content() == CODE
    page.get_by_role("button", name="Edit").last.click()
    expect(box).to_have_value(CODE)
    page.get_by_role("button", name="Submit").click()  # unchanged
    page.wait_for_timeout(1000)
    assert page.get_by_test_id("user").last.locator("pre.text").text_content() == CODE


def expect_copied(page: Page, text: str) -> None:
    """The clipboard is written a moment after the click."""
    page.wait_for_function("async (text) => await navigator.clipboard.readText() === text", arg=text)


@pytest.mark.long
def test_a_page_that_may_not_use_the_clipboard_copies_the_text_too(browser: Browser, app: App) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.add_init_script("Object.defineProperty(Navigator.prototype, 'asked', {get() { return this.clipboard; }})")
    page = context.new_page()
    page.goto(app.url)
    choose(page, "Variant", "echo")
    ask(page, CODE)
    expect(page.locator(".note.facts")).to_have_count(1)
    page.evaluate("window.board = navigator.clipboard; delete Navigator.prototype.clipboard")
    page.get_by_role("button", name="Copy message").first.click()
    assert page.evaluate("window.board.readText()") == CODE
    context.close()


def test_what_is_asked_and_answered_in_a_chat_does_nothing(page: Page) -> None:
    choose(page, "Variant", "speaking")
    expect(page.get_by_text("log in with your token").first).to_be_visible()  # what is said about it
    choose(page, "Variant", "echo")
    for count, text in enumerate(batches(PAYLOADS, 32)):
        ask(page, text)
        expect(page.locator(".note.facts")).to_have_count(count + 1)
        typed = shown(text).replace("\r\n", "\n").replace("\r", "\n")  # a box knows one kind of line end
        assert page.get_by_test_id("user").last.locator("pre.text").text_content() == typed
        assert page.evaluate(LOOK) == []


def grammar(text: str) -> str:
    """One that leaves a model no choice."""
    return "root ::= " + json.dumps(text, ensure_ascii=False).replace("\x7f", "")


@pytest.mark.long
def test_lines_of_an_answer_do_nothing(page: Page) -> None:
    unfold(page, "Generation settings")
    page.get_by_label("number input for Max tokens").fill("900")
    page.get_by_label("number input for Max tokens").press("Tab")
    for text in batches([*FENCES, *BLOCKS, *LINKS[:8]], 6):
        box = page.get_by_role("textbox", name="Grammar")
        box.fill(grammar(text))
        box.press("Tab")
        page.wait_for_timeout(200)
        ask(page, "Say it.")
        expect(page.locator(".note.facts")).to_have_count(1)
        expect(page.get_by_test_id("bot").last).to_contain_text(re.compile("evil.example|__pwned"))
        assert page.evaluate(LOOK) == []
        page.get_by_role("button", name="New chat").click()
        expect(page.get_by_test_id("bot")).to_have_count(0)


@pytest.mark.long
def test_a_comparison_and_the_evidence_of_a_judge_do_nothing(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    choose(page, "Variant A", "echo")
    choose(page, "Variant B", "echo")
    page.get_by_label("Prompt for all").fill("\n".join([*TAGS, *FENCES]))
    page.get_by_role("button", name="Send to all").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    expect(page.locator(".note.facts").filter(visible=True)).to_have_count(2)
    assert page.evaluate(LOOK) == []
    unfold(page, "Ask a judge about these answers")
    choose(page, "Judge of the comparison", "gpt-4o-mini at")
    page.get_by_role("button", name="Score each answer").click()
    expect(page.locator("#opinion")).to_contain_text(re.compile(r"4\.00.*evil\.example"), timeout=120_000)
    assert page.evaluate(LOOK) == []
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("#vote-status")).to_contain_text("Your vote")


@pytest.mark.long
def test_what_a_model_says_of_itself_does_nothing(page: Page) -> None:
    page.get_by_role("tab", name="Library").click()
    expect(page.get_by_role("gridcell", name="hostile", exact=True).first).to_be_visible()
    unfold(page, "One variant")
    choose(page, "Variant details", "hostile")
    expect(page.get_by_text("log in with your token").first).to_be_attached()
    expect(page.get_by_text(re.compile("^About: .*<img src")).first).to_be_visible()
    unfold(page, "All fields of the GGUF header")
    expect(page.get_by_role("gridcell", name=IMG, exact=True).first).to_be_visible()
    assert page.evaluate(LOOK) == []
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_text("Remove hostile?")).to_be_visible()


@pytest.mark.long
def test_what_a_run_says_of_itself_does_nothing(page: Page) -> None:
    page.get_by_role("tab", name="Runs").click()
    expect(page.get_by_role("gridcell", name=FORM).first).to_be_visible()
    expect(page.locator("svg .legendtext").filter(has_text="<form action").first).to_be_attached()
    unfold(page, "Model card")
    expect(page.get_by_role("heading", name="Chat template")).to_be_visible()
    expect(page.locator(".html-container pre").filter(has_text="#include")).to_be_visible()
    unfold(page, "Settings side by side")


@pytest.mark.long
def test_a_toast_that_repeats_a_name_does_nothing(page: Page) -> None:
    page.get_by_role("tab", name="Train").click()
    unfold(page, "All settings")
    for text in (IMG, FORM[:50], "<svg onload=window.__pwned=1>", "&lt;b&gt;"):
        name = page.get_by_role("textbox", name="Name Name of the fine-tuned variant")
        name.fill(text)
        name.press("Tab")
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_test_id("toast-text").filter(has_text=text[:40]).first).to_be_visible()
        assert page.evaluate(LOOK) == []


@pytest.mark.long
def test_answers_made_elsewhere_do_nothing(page: Page, tmp_path: Path) -> None:
    names = [IMG, FORM[:100]]
    rows = [
        {"model": name, "id": f"{n} {text}"[:200], "instruction": text, "reference": text, "candidate": text,
         "score": 1 + (n + place) % 5, "explanation": text, text[:50]: text}
        for place, name in enumerate(names)
        for n, text in enumerate(PAYLOADS)
        if text.strip()
    ]  # fmt: skip
    file = tmp_path / "elsewhere.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.get_by_role("tab", name="Judge").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a file").last.click()
    chooser.value.set_files(file)
    expect(page.get_by_label("Rows", exact=True)).to_have_value("Imported answers (CSV or JSONL)")
    page.get_by_role("button", name="Start evaluation").click()
    expect(page.locator("#verdict")).to_contain_text("<img src=http://evil.example", timeout=120_000)
    expect(page.locator("svg .ytick").filter(has_text="<img src").first).to_be_attached()
    for place in range(3):
        page.get_by_role("gridcell", name=f"{place} {PAYLOADS[place]}").first.click()
        expect(page.locator(".html-container h4")).to_contain_text("Row ")
        page.wait_for_timeout(500)
        assert page.evaluate(LOOK) == []
    unfold(page, "Rate answers yourself, blind")
    page.get_by_role("button", name="Show an answer").click()
    expect(page.get_by_text("rated. ")).to_be_visible()
