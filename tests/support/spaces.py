"""A Space with its owner and its visitors."""

import json
import secrets
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import App, start_app, stop_app
from servers.hub import Hub

from backend.jobs.run import runs_in
from support.library import FILE, TOY
from support.runs import alive, over
from support.session import until

REPO, SHARD = "owner/toy-GGUF", "toy-00001-of-00002.gguf"


class Session:
    """A tab that posts what it likes to every handler, the private ones too."""

    def __init__(self, app: App, headers: dict[str, str] | None = None) -> None:
        self.http = httpx.Client(base_url=f"{app.url}/gradio_api", headers=headers, timeout=60)
        self.hash = secrets.token_hex(6)
        self.config = httpx.get(f"{app.url}/config").json()
        self.handlers = {dependency["id"]: dependency for dependency in self.config["dependencies"]}
        self.parts = {part["id"]: part for part in self.config["components"]}
        self.numbers = {one["api_name"]: number for number, one in self.handlers.items() if one["api_name"]}

    def call(self, handler: str | int, *values: Any) -> tuple[list[Any], str | None]:
        """What it answered; or why it did not, None where the framework did not even pass it on."""
        number = self.numbers[handler] if isinstance(handler, str) else handler
        asked = {"data": values, "fn_index": number, "session_hash": self.hash}
        asked["trigger_id"] = self.handlers[number]["targets"][0][0]
        self.http.post("/queue/join", json=asked).raise_for_status()
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.hash}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data:") or "{}")
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    return (output["data"], "") if message["success"] else ([], output["error"])
        raise AssertionError("it never answered")

    def library(self) -> set[int]:
        """Every handler that belongs to the Library tab: its trigger, what it reads or what it writes is there."""

        def below(node: dict[str, Any], inside: bool) -> Iterator[int]:
            inside = inside or self.parts.get(node["id"], {}).get("props", {}).get("id") == "library"
            if inside:
                yield node["id"]
            for child in node.get("children") or []:
                yield from below(child, inside)

        mine = set(below(self.config["layout"], False))
        return {
            number
            for number, one in self.handlers.items()
            if mine & {*one["inputs"], *one["outputs"], *(target for target, _ in one["targets"])}
        }


def upload(app: App, **headers: str) -> int:
    return httpx.post(app.url + "/gradio_api/upload", files={"files": b"x"}, headers=headers).status_code


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.add(REPO, FILE, TOY)
        hub.add(REPO, SHARD, b"GGUF" * 100)
        hub.add("owner/slow-GGUF", "slow.gguf", TOY)
        hub.fault("/cdn/owner/slow-GGUF/*", "stall", after=1_000_000)
        yield hub


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[App]:
    """A lab whose owner has no HOME."""
    home = tmp_path_factory.mktemp("homeless")
    (home / "weights").mkdir()
    shutil.copy(TOY, home / "weights" / "mine.gguf")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        app = start_app(home, HF_ENDPOINT=hub.url)
    yield app
    stop_app(app)
    for run in runs_in(home / "runs"):
        assert alive(run) == []


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[App]:
    """The app as it finds itself on a Space."""
    home = tmp_path_factory.mktemp("space")
    (home / "weights").mkdir()
    shutil.copy(TOY, home / "weights" / "mine.gguf")
    oauth = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "s3cret", "OAUTH_SCOPES": "openid"}
    where = {"SYSTEM": "spaces", "SPACE_ID": "me/lab", "SPACE_CREATOR_USER_ID": "u1", "LAB_VISITOR_TOKENS": "20"}
    there = {"OPENID_PROVIDER_URL": "http://127.0.0.1:9", "GRADIO_SERVER_NAME": "127.0.0.1"}
    app = start_app(home, **oauth, **where, **there, HF_ENDPOINT=hub.url, HF_HOME=str(home / "hf"))
    yield app
    stop_app(app)
    for run in runs_in(home / "runs"):
        run.stop()
        until(lambda run=run: over(run))  # type: ignore[misc]
