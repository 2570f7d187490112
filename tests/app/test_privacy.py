"""A visitor of a Space learns nothing of its owner: words are planted everywhere, and everything he can get is read."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, App, start_app, stop_app
from support.run_folders import KINDS, written
from support.session import SAMPLING, cookie, until
from support.spaces import Session

from app.judge.form_choices import ANSWERS, OVERLAP
from backend.jobs import events
from backend.jobs.folders import Exit
from backend.jobs.run import Run, runs_in

SECRET = re.compile(rf"canary\w*|{re.escape(str(ROOT))}[^\"]*", re.IGNORECASE)
SPACE = {
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "s3cret",
    "OAUTH_SCOPES": "openid",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
    "SYSTEM": "spaces",
    "SPACE_ID": "me/lab",
    "SPACE_CREATOR_USER_ID": "u1",
}
PLANTED = {
    "HF_USERNAME": "canary-user",
    "HF_TOKEN": "hf_canarytoken",
    "WANDB_API_KEY": "canarywandb",
    "WANDB_PROJECT": "canary-project",
    "OPENAI_API_KEY": "sk-canary",
    "JUDGE_BASE_URL": "http://canary-judge.example:9/v1",
    "HF_ENDPOINT": "http://127.0.0.1:9/canary-endpoint",
}
TABS = ("runs", "judge", "library")
VOTE = {
    "blind": True,
    "candidates": [
        {"variant": f"canary-variant-{n}", "messages": [{"role": "user", "content": "canary-vote"}]} for n in range(2)
    ],
    "verdict": "tie",
}


def plant_failed(runs: Path, kind: str, number: int) -> None:
    """A run that failed, with a reason, a log and events that name what is private, as older versions wrote them."""
    folder = written(runs, kind, f"20260101-00000{number}-000")
    why = f"/home/canary-home/{kind}: No space left. It waits for canary-first words. It last said: canary-log"
    (folder / "log.txt").write_text("canary-log /home/canary-home\n")
    events.append_event(folder, "again")
    events.append_event(folder, "step", state="canary-doing", said=["canary-said"])
    events.append_event(folder, "failed", why=why)
    (folder / "exit.json").write_text(Exit(state="failed", why=why, at=time.time()).model_dump_json())


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("canary-path")
    runs = home / "runs"
    runs.mkdir()
    (runs / "judgements.jsonl").write_text(json.dumps(VOTE) + "\n")
    for number, kind in enumerate(KINDS):
        plant_failed(runs, kind, number)
    (home / "weights" / "broken").mkdir(parents=True)
    (home / "weights" / "broken" / "variant.json").write_text(
        '{"id": "broken", "about": "no file", "file": "canary-absent.gguf"}'
    )
    app = start_app(home, **SPACE, **PLANTED)
    yield app
    stop_app(app)


def said(session: Session, name: str, *values: Any) -> str:
    """What a handler answered, errors included, as text."""
    found, why = session.call(name, *values)
    return json.dumps([found, why], ensure_ascii=False)


def use_as_owner(app: App) -> list[Run]:
    """Chat, compare, vote, ask a judge, evaluate answers of a file, try to download: all with planted words."""
    owner = Session(app, cookie("u1"))
    sampling = list((SAMPLING | {"max_tokens": 5}).values())
    assert "canary" in said(owner, "chat", "canary-prompt", None, "echo", "as trained", "canary-system", *sampling)
    picked = ["echo", "echo", "none", "none"]
    owner.call("compare", "canary-prompt", None, *picked, False, "together", "canary-system", *sampling)
    owner.call("vote_a_is_better", None)
    owner.call("judge_scores", None, OVERLAP, "lab", "canary-reference")
    rows = [
        {
            "model": name,
            "id": f"r{n}",
            "instruction": "canary-question",
            "reference": "canary-known",
            "candidate": "canary-told",
        }
        for name in ("one", "two")
        for n in range(6)
    ]
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files = {"files": ("canary-file.jsonl", body)}
    path = owner.http.post("/upload", files=files).json()[0]
    assert owner.call("bring_answers", {"path": path, "meta": {"_type": "gradio.FileData"}})[1] == ""
    kept = next((app.home / "runs").rglob("*canary-file*.jsonl"))
    named = {
        owner.parts[part]["props"].get("label"): part for part in owner.handlers[owner.numbers["evaluate"]]["inputs"]
    }
    values = {
        part: owner.parts[part]["props"].get("value") for part in owner.handlers[owner.numbers["evaluate"]]["inputs"]
    }
    values |= {
        named["Rows"]: ANSWERS,
        named["Uploaded file"]: str(kept),
        named["Judge"]: OVERLAP,
        named["Variants to evaluate"]: [],
    }
    assert owner.call("evaluate", *values.values())[1] == ""
    owner.call("download_base_1b")
    runs = runs_in(app.home / "runs")
    until(lambda: all(not run.live for run in runs), 90)
    return list({run.spec.kind: run for run in runs}.values())  # the newest of each kind


def everything(app: App, runs: list[Run], user: str) -> Iterator[tuple[str, str]]:
    """(where, text) of all that a visitor can get: pages, and the answer of every handler, for every run."""
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/theme.css", "/gradio_api/app_id"):
        yield path, httpx.get(app.url + path).text
    session = Session(app, cookie(user))
    for tab in TABS:
        yield tab, said(session, tab)
    for number, handler in session.handlers.items():
        labels = [session.parts[part]["props"].get("label") for part in handler["inputs"]]
        defaults = [session.parts[part]["props"].get("value") for part in handler["inputs"]]
        chosen = [n for n, label in enumerate(labels) if label in ("Run", "Evaluation", "Curves of")]
        for run in runs if chosen else [None]:
            values = list(defaults)
            for place in chosen:
                values[place] = [run.id] if labels[place] == "Curves of" else run.id
            try:
                found, why = session.call(number, *values)
            except httpx.HTTPStatusError as error:
                found, why = [], error.response.text
            yield (
                f"{handler['api_name'] or number} {run.id if run else ''}",
                json.dumps([found, why], ensure_ascii=False),
            )
    for kind in ("verdict (CSV)", "methods paragraph", "everything (JSON)"):
        for run in runs:
            yield f"{kind} of {run.id}", said(session, "save_evaluation", run.id, kind)
    for run in runs:
        for path in ("spec.json", "log.txt", "exit.json"):
            yield path, httpx.get(f"{app.url}/gradio_api/file={run.folder / path}").text


def test_no_planted_word_reaches_a_visitor(space: App) -> None:
    runs = use_as_owner(space)
    planted = "".join(path.read_text(errors="replace") for path in (space.home / "runs").rglob("*") if path.is_file())
    for word in ("canary-prompt", "canary-question", "canary-log", "canary-first", "canary-path"):
        assert word in planted, word  # or the test would look for nothing
    assert leaks(space, runs, "u2") == {}
    owner = Session(space, cookie("u1"))  # the search must find the words that the owner sees
    assert all(SECRET.search(said(owner, tab)) for tab in TABS)


def leaks(app: App, runs: list[Run], user: str) -> dict[str, set[str]]:
    """The planted words that reach a user, by where."""
    read = {where: set(SECRET.findall(text)) for where, text in everything(app, runs, user)}
    assert len(read) > 50
    return {where: found for where, found in read.items() if found}
