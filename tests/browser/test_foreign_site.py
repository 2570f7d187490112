"""A page of another site, open in the same browser, tries to read and to drive the app. It gets nothing."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import App
from playwright.sync_api import Browser, Page, expect

ATTACK = """<!doctype html><title>foreign</title><script>
const app = "APP";
const ways = {
  read: () => fetch(app + "/config"),
  preflight: () => fetch(app + "/gradio_api/queue/join", {method: "POST", credentials: "include",
    headers: {"Content-Type": "application/json"}, body: JSON.stringify({fn_index: 0, data: [], session_hash: "a"})}),
  simple: () => fetch(app + "/gradio_api/queue/join", {method: "POST", mode: "no-cors", credentials: "include",
    headers: {"Content-Type": "text/plain"}, body: JSON.stringify({fn_index: 0, data: [], session_hash: "a"})}),
  upload: () => {const form = new FormData(); form.append("files", new Blob(["x"]), "x.html");
    return fetch(app + "/gradio_api/upload", {method: "POST", mode: "no-cors", body: form});},
  beacon: () => Promise.resolve(navigator.sendBeacon(app + "/gradio_api/cancel", "{}")),
  image: () => new Promise((done, fail) => {const img = new Image(); img.onload = done; img.onerror = fail;
    img.src = app + "/static/img/logo.svg"; document.body.append(img);}),
  script: () => new Promise((done, fail) => {const one = document.createElement("script"); one.onload = done;
    one.onerror = fail; one.src = app + "/config"; document.body.append(one);}),
  frame: () => new Promise((done) => {const one = document.createElement("iframe"); one.onload = () => done();
    one.src = app + "/"; document.body.append(one);}),
};
async function run() {
  const found = {};
  for (const [name, way] of Object.entries(ways)) {
    try { const answer = await way(); found[name] = answer && answer.type ? answer.type + answer.status : "done"; }
    catch (error) { found[name] = "failed"; }
  }
  return found;
}
</script><body><form id="form" method="post" enctype="multipart/form-data" action="APP/gradio_api/upload">
<input name="files" value="x"></form><a id="file" href="APP/gradio_api/file=https://example.org/x.png">file</a>
<a id="open" href="APP/">open</a></body>"""


@pytest.fixture
def foreign(app: App, tmp_path: Path) -> Iterator[str]:
    """The address of a page on another port of localhost, which for a browser is the same site."""
    (tmp_path / "attack.html").write_text(ATTACK.replace("APP", app.url))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/attack.html"
    server.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_on_another_port_reads_and_changes_nothing(app: App, page: Page, foreign: str, name: str) -> None:
    answers: dict[str, int] = {}
    page.on("response", lambda answer: answers.update({answer.url: answer.status}))
    page.goto(foreign.replace("127.0.0.1", name))
    found = page.evaluate("run()")
    reached = {url.removeprefix(app.url): status for url, status in answers.items() if url.startswith(app.url)}
    assert reached and set(reached.values()) == {403}, reached
    assert found == {
        "read": "failed",
        "preflight": "failed",
        "simple": "failed",
        "upload": "failed",
        "beacon": "done",
        "image": "failed",
        "script": "failed",
        "frame": "done",
    }, found


def test_a_form_of_another_page_uploads_nothing(app: App, page: Page, foreign: str) -> None:
    page.goto(foreign)
    with page.expect_response(lambda answer: "/upload" in answer.url) as answer:
        page.evaluate("document.getElementById('form').submit()")
    assert answer.value.status == 403


def test_a_link_of_another_page_opens_the_app_and_no_file(app: App, page: Page, foreign: str) -> None:
    page.goto(foreign)
    with page.expect_response(lambda answer: "file=" in answer.url) as answer:
        page.click("#file")
    assert answer.value.status == 403
    other = page.context.new_page()  # the first one may still be on its way to the browser's own error page
    other.goto(foreign)
    other.click("#open")
    other.get_by_label("Your message").wait_for()


def test_an_uploaded_page_cannot_run_in_the_app(app: App, page: Page) -> None:
    """What the own page uploads and opens is downloaded, or shown without scripts."""
    page.goto(app.url)
    path = page.evaluate(
        """async () => {const form = new FormData();
        form.append("files", new Blob(["<script>document.title = 'owned'</script>"], {type: "text/html"}), "x.html");
        return (await (await fetch("/gradio_api/upload", {method: "POST", body: form})).json())[0];}"""
    )
    with page.expect_download():
        page.evaluate("path => {window.location = '/gradio_api/file=' + path}", path)
    expect(page).to_have_title("PEFT Lab")
