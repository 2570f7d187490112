"""The Library's handlers as anybody may post to them: hostile names, forged values, visitors, and a folder of lies."""

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, App
from servers.hub import Hub
from support.library import FILE, HOSTILE, NAME, TOY, sentence
from support.runs import over
from support.session import CAPITAL, Visitor, cookie, until
from support.spaces import REPO, SHARD, Session, app, hub, space

from backend.jobs.run import Run, runs_in

__all__ = ["app", "hub", "space"]  # the fixtures


def disk(app: App) -> dict[str, bytes]:
    """Every file of the app's two folders, but for what arrives just now and what its run says of that."""
    return {
        str(path.relative_to(app.home)): path.read_bytes()
        for folder in ("weights", "runs")
        for path in (app.home / folder).rglob("*")
        if path.is_file() and ".arriving" not in path.parts and path.name != "events.jsonl"
    }


def bugs(app: App) -> list[str]:
    return re.findall(r"bug [0-9a-f]{8}", (app.home / "app.log").read_text())


@pytest.fixture(autouse=True)
def no_bug(app: App) -> Iterator[None]:
    """Whatever is posted, no handler meets what it did not expect."""
    before = bugs(app)
    yield
    assert bugs(app) == before and app.process.poll() is None


def fetched(session: Session, app: App) -> Run:
    assert session.call("list_files", REPO, "")[1] == ""
    assert session.call("fetch", None, FILE, None)[1] == ""
    run = runs_in(app.home / "runs")[-1]
    until(lambda: over(run))
    return run


def test_without_a_home_a_model_arrives_all_the_same(app: App) -> None:
    assert "HOME" not in environment_of(app)
    session = Session(app)
    run = fetched(session, app)
    assert (run.state, run.why) == ("done", "")
    assert (app.home / "weights" / NAME / FILE).read_bytes() == TOY.read_bytes()
    session.call("library")
    assert session.call("remove", NAME)[1] == "" and not (app.home / "weights" / NAME).exists()


def environment_of(app: App) -> set[str]:
    words = Path(f"/proc/{app.process.pid}/environ").read_bytes().decode().split("\0")
    return {word.partition("=")[0] for word in words}


@pytest.mark.parametrize("field", ["repository", "revision"])
def test_names_that_mean_harm_are_answered_with_a_sentence(field: str, app: App, hub: Hub) -> None:
    session, asked = Session(app), len(hub.requests())
    harmless = ("", "owner/n", "owner/-rf") if field == "revision" else ()
    for name in [one for one in HOSTILE if one not in harmless] + ["x" * 100_000, "[[" * 400]:
        _, why = session.call("list_files", *((name, "") if field == "repository" else (REPO, name)))
        assert why and sentence(why), (name, why)
    assert len(hub.requests()) == asked


FORGED: list[Any] = [
    None, "", "unknown", "../../x", "../../../etc/passwd", "mine\n", "mine.gguf", "\uff4dine", "x" * 100_000, -1, 1,
    10**30, 1.5, True, [], ["mine"], [None], {"id": "mine"}, "\0", "tiny_base/../mine",
]  # fmt: skip


@pytest.mark.parametrize(
    "handler",
    ["remove", "ask_to_remove", "verify", "speed_test", "try_again", "unload", "cancel", "describe"],
)
def test_a_forged_choice_changes_nothing(handler: str, app: App) -> None:
    session, before = Session(app), disk(app)
    for value in FORGED:
        values, why = session.call(handler, value)
        assert why or (handler == "describe" and not value and values[0] == ""), (value, values, why)
        assert not why or sentence(why) or "is not in the list of choices" in why, (value, why)
    assert disk(app) == before
    assert session.call("describe", "mine")[1] == ""


def test_a_forged_context_changes_nothing(app: App) -> None:
    session = Session(app)
    told = session.call("choose_context", "mine", "default")[0]
    for variant, tokens in [("mine", value) for value in FORGED] + [(value, "512") for value in FORGED]:
        _, why = session.call("choose_context", variant, tokens)
        assert why and (sentence(why) or "is not in the list of choices" in why), (variant, tokens, why)
    assert session.call("choose_context", "mine", "default")[0] == told


def test_what_was_not_listed_is_not_fetched(app: App) -> None:
    session, before = Session(app), disk(app)
    for value in [FILE, *FORGED]:  # nothing was listed yet
        assert session.call("fetch", None, value, None)[1]
    assert session.call("list_files", REPO, "")[1] == ""
    for value in ["other.gguf", f"../{FILE}", f"x/{FILE}", f"{FILE}\n", *FORGED]:
        assert session.call("fetch", None, value, None)[1], value
    why = session.call("fetch", None, SHARD, None)[1]
    assert why and "part 1 of 2" in why and sentence(why)
    for base in ("../../x", ["mine"], {"id": "mine"}, 7):
        assert session.call("fetch", None, FILE, base)[1], base
    elsewhere = Session(app)  # another tab has a listing of its own: none
    why = elsewhere.call("fetch", {"repo": REPO, "files": [{"path": FILE}]}, FILE, None)[1]
    assert why and disk(app) == before


def test_an_address_in_place_of_a_value_is_not_fetched(app: App, hub: Hub) -> None:
    session, asked = Session(app), len(hub.requests())
    file = {"path": f"{hub.url}/{REPO}/resolve/main/{FILE}", "meta": {"_type": "gradio.FileData"}}
    for handler, values in {"bring": [[file], None], "list_files": [file, ""], "remove": [file]}.items():
        assert "does not download files from addresses" in str(session.call(handler, *values)[1]), handler
    assert len(hub.requests()) == asked


def test_a_path_that_was_not_uploaded_is_not_brought(app: App) -> None:
    session, before = Session(app), disk(app)
    mine, toy = app.home / "weights" / "mine.gguf", TINY / "tiny_base.gguf"
    paths = [str(mine), str(toy), "/etc/passwd", "../../x", "mine.gguf", ""]
    for path in paths:
        file = {"path": path, "orig_name": "x.gguf", "meta": {"_type": "gradio.FileData"}}
        assert session.call("bring", [file], None)[1] != "", path
    for value in FORGED:
        assert session.call("bring", value, None)[1] != "", value
    assert disk(app) == before and mine.is_file() and toy.is_file()


def test_an_address_in_the_place_of_a_file_is_not_fetched(app: App) -> None:
    file = {"path": "http://192.0.2.1/x.gguf", "meta": {"_type": "gradio.FileData"}}
    _, why = Session(app).call("bring", [file], None)
    assert why and "does not download files from addresses" in why


SPECS: dict[str, str] = {
    "empty": "",
    "text": "not JSON",
    "list": "[]",
    "deep": "[" * 100_000,
    "missing": '{"kind": "download"}',
    "extra": '{"kind": "download", "name": "x", "created": 1, "asked": {}, "more": 1}',
    "unknown": '{"kind": "dance", "name": "x", "created": 1, "asked": {"id": 7}}',
    "nothing": '{"kind": "download", "name": "x", "created": 1, "asked": {}}',
    "speed": '{"kind": "speed", "name": "x", "created": 1, "asked": {}}',
}
LIES = b'{"kind": "result", "at": 1, "facts": {"id": []}}\n\xff\xfe{"kind": 1}\n{"kind": "ended", "at": 2}\n'


def lie(app: App) -> None:
    """Records of every kind that say what nobody wrote."""
    (app.home / "weights" / ".marks").mkdir(exist_ok=True)
    for name in ("weights-mine.gguf", "tiny-tiny_base.gguf", "x"):
        (app.home / "weights" / ".marks" / f"{name}.json").write_bytes(b"\xff[{" if name == "x" else b'{"stamp": []}')
    for name, spec in SPECS.items():
        folder = app.home / "runs" / f"20300101-000000-999-download-{name}"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(spec)
        for file in ("exit.json", "runner.json", "stop", "events.jsonl"):
            (folder / file).write_bytes(LIES if file == "events.jsonl" else b'{"state": 1, "runner": [1, "x"]}')
    (app.home / "runs" / "20300101-000000-999-download-x" / "spec.json").mkdir(parents=True)
    (app.home / "runs" / "9-notes").mkdir()
    (app.home / "runs" / "9-notes" / "spec.json").write_text(SPECS["nothing"])


def link(path: Path) -> None:
    path.symlink_to(path.parent)


@pytest.mark.parametrize("made", [link, Path.touch])
def test_the_page_answers_whatever_its_folders_say(made: Callable[[Path], None], app: App) -> None:
    session, arriving = Session(app), app.home / "weights" / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    made(arriving)
    lie(app)
    try:
        values, why = session.call("library")
        text = html.unescape(json.dumps(values))
        assert why == "" and "Remove it, then try again" in text and "mine" in text
        assert session.call("describe", "mine")[1] == ""
        why = session.call("remove", "mine")[1]
        assert why and sentence(why) and "Remove it, then try again" in why
        arriving.unlink()
        values, why = session.call("library")
        assert why == "" and "Remove it, then try again" not in html.unescape(json.dumps(values))
        run = fetched(session, app)
        assert (run.state, run.why) == ("done", "") and (app.home / "weights" / NAME / FILE).is_file()
    finally:
        arriving.unlink() if arriving.is_symlink() or arriving.is_file() else None
        for path in [*(app.home / "runs").iterdir(), app.home / "weights" / ".marks", app.home / "weights" / NAME]:
            shutil.rmtree(path, ignore_errors=True)
    assert (app.home / "weights" / "mine.gguf").is_file()


def engines(app: App) -> list[int]:
    return [pid for module, pid in app.children().items() if module.startswith("backend.inference")]


def test_a_visitor_of_a_space_changes_nothing_by_any_handler_and_its_owner_does(space: App, hub: Hub) -> None:
    owner, visitor = Session(space, cookie("u1")), Session(space, cookie("u2"))
    told = Visitor(space)
    assert "Paris" in told.said(told.chat(CAPITAL, max_tokens=20))[1]
    (model,) = engines(space)
    file = owner.http.post("/upload", files={"files": ("up.gguf", TOY.read_bytes())}).json()[0]
    assert owner.call("list_files", "owner/slow-GGUF", "")[1] == ""
    assert owner.call("fetch", None, "slow.gguf", None)[1] == ""
    (run,) = runs_in(space.home / "runs")
    until(lambda: len(hub.requests("GET", "/cdn/owner/slow-GGUF")) == 1)
    before, asked = disk(space), len(hub.requests())

    choices = {
        "Variant details": "mine", "Context, tokens": "512", "Transfer to cancel": run.id,
        "Model to unload": str(model), "Repository on the Hub": REPO, "Revision": "main",
        "Import files": [{"path": file, "orig_name": "up.gguf", "meta": {"_type": "gradio.FileData"}}],
    }  # fmt: skip
    assert visitor.call("library")[1] == ""  # so that the lists of its page have what it chooses
    answers = {}
    for number in sorted(visitor.library()):
        labels = [visitor.parts[part]["props"].get("label") for part in visitor.handlers[number]["inputs"]]
        _, why = visitor.call(number, *[choices.get(str(label)) for label in labels])
        answers[visitor.handlers[number]["api_name"] or str(number)] = why
    refused = {name for name, why in answers.items() if why and "Only the owner of this lab may" in why}
    catalogue = {"download_base_1b", "download_base_3b", "download_1b_lora", "download_1b_qlora", "download_3b_qlora"}
    acting = {"list_files", "fetch", "bring", "verify", "speed_test", "try_again", "remove", "ask_to_remove", "unload"}
    assert refused == {*acting, *catalogue, "cancel", "choose_context", "list_files_1"}, answers
    assert {name for name, why in answers.items() if not why} >= {"library", "library_tick", "describe"}
    assert disk(space) == before and len(hub.requests()) == asked and Path(file).is_file()
    assert run.state == "running" and engines(space) == [model]

    owner.call("library")
    for handler, value in {"remove": "mine", "cancel": run.id, "unload": str(model)}.items():
        assert owner.call(handler, value)[1] == "", handler
    until(lambda: over(run))
    assert run.state == "stopped" and not (space.home / "weights" / "mine.gguf").exists() and engines(space) == []
    assert bugs(space) == []
