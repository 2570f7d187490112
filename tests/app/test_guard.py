"""Who may do what, asked where it counts: at the handlers and at the door."""

import socket
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from conftest import App
from support.spaces import upload

from app import guard
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.inference.sampling import Sampling


def place(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def somebody(user: str = "") -> gr.Request:
    session = {"oauth_info": {"userinfo": {"sub": user}}} if user else {}
    return gr.Request(request=SimpleNamespace(scope={"session": session}))  # type: ignore[arg-type]


SPACE = {"space_id": "me/lab", "space_creator_user_id": "u1", "oauth_client_secret": "s3cret"}


@pytest.mark.parametrize(
    ("settings", "user", "expected"),
    [
        (place(), "", guard.Role.OWNER),
        (place(lab_host="::1"), "", guard.Role.OWNER),
        (place(lab_host="0.0.0.0"), "", guard.Role.VISITOR),
        (place(lab_host="0.0.0.0", lab_trusted=True), "", guard.Role.OWNER),
        (place(**SPACE), "", guard.Role.VISITOR),
        (place(**SPACE), "u2", guard.Role.VISITOR),
        (place(**SPACE), "u1", guard.Role.OWNER),
        (place(**SPACE | {"oauth_client_secret": ""}), "u1", guard.Role.VISITOR),
        (place(**SPACE | {"space_creator_user_id": ""}), "", guard.Role.VISITOR),
        (place(**SPACE, lab_trusted=True), "", guard.Role.VISITOR),
    ],
)
def test_a_person_is_who_the_place_can_vouch_for(settings: Settings, user: str, expected: guard.Role) -> None:
    assert guard.role(settings, somebody(user)) is expected


def test_a_visitor_is_told_what_to_do() -> None:
    with pytest.raises(LabError, match="make run"):
        guard.require_owner(place(**SPACE), somebody(), "train")


def test_a_visitors_answer_is_shorter() -> None:
    asked = Sampling(max_tokens=5000)
    assert guard.bounded(place(**SPACE), somebody(), asked).max_tokens == 256
    assert guard.bounded(place(), somebody(), asked).max_tokens == 5000


def test_a_visitor_gives_no_grammar() -> None:
    with pytest.raises(LabError, match="use a grammar"):
        guard.bounded(place(**SPACE), somebody(), Sampling(grammar='root ::= "a"'))


def test_a_bug_shows_an_id_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    settings = place(openai_api_key="sk-very-secret")

    @guard.shown(settings)
    def handler() -> None:
        raise RuntimeError("call with sk-very-secret failed")

    with pytest.raises(gr.Error, match="bug [0-9a-f]{8}") as caught:
        handler()
    assert "sk-very-secret" not in str(caught.value) + caplog.text
    assert "[secret]" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "127.0.0.1.evil.com"}],
)
def test_the_door_stays_shut_for_other_names(app: App, headers: dict[str, str]) -> None:
    answer = httpx.get(app.url + "/config", headers=headers)
    assert answer.status_code == 403
    assert "LAB_HOSTS" in answer.text


def test_the_owner_may_upload_and_no_other_page(app: App) -> None:
    assert upload(app) == 200
    assert upload(app, Origin="https://evil.example") == 403


def test_an_upload_that_the_disk_cannot_hold_is_refused_before_it_begins(app: App) -> None:
    with socket.create_connection(urlsplit(app.url).netloc.split(":")) as line:  # type: ignore[arg-type]
        line.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999999999999\r\n\r\n")
        assert b" 413 " in line.recv(200)


def test_pages_carry_the_policy_against_remote_images(app: App) -> None:
    assert "img-src 'self'" in httpx.get(app.url).headers["content-security-policy"]


def test_files_of_this_machine_are_not_served(app: App) -> None:
    for path in ("/etc/passwd", "env.template", str(app.home / "app.log")):
        assert httpx.get(f"{app.url}/gradio_api/file={path}").status_code in (403, 404)
