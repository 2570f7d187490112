"""Which requests reach the app: hosts, origins, routes, sizes, headers. Tried on the rules and on the real app."""

import asyncio
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from conftest import App
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers
from support.asgi import HOST, LOCAL, SPACE, scope

from app import middleware
from app.middleware import own_origin, refused
from app.visitor_limits import VisitorLimits
from backend.core.settings import Settings

ADDRESSES = (
    "https://example.org/x.png",
    "http://example.org/x.png",
    "HTTPS://example.org/x.png",
    "hTtP:/example.org/x.png",
    "https:example.org/x.png",
    "//example.org/x.png",
    "/\\example.org/x.png",
    "https%3A%2F%2Fexample.org/x.png",
    "%68ttps://example.org/x.png",
    "https:\\\\example.org\\x.png",
    " https://example.org/x.png",
    "\thttps://example.org/x.png",
    "ftp://example.org/x.png",
    "file:///etc/passwd",
    "data:text/html,<script>alert(1)</script>",
    "http://[::1]:80/x.png",
    "http://127.0.0.1:80/x.png",
    "https://user:word@example.org/x.png",
    "ｈttps://example.org/x.png",
)


def status(asked: Any, place: Settings = LOCAL) -> int:
    answer = refused(place, asked)
    return answer.status_code if answer else 200


# --- origins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1:7861",
        "http://127.0.0.1",
        "http://localhost:7860",
        "http://127.0.0.1:7860.evil.example",
        "http://127.0.0.1:7860@evil.example",
        "http://127.0.0.1:78600",
        "chrome-extension://abcdef",
        "file://",
        "http://127.0.0.1:7860/path",
        "//127.0.0.1:7860",
    ],
)
def test_a_foreign_origin_is_refused_whatever_it_asks(origin: str, method: str) -> None:
    path = "/gradio_api/queue/join" if method == "POST" else "/config"
    assert status(scope(path, method, origin=origin, content_length="2")) == 403


@pytest.mark.parametrize("origin", ["https://me-lab.hf.space", "https://lab.example.org"])
def test_the_own_page_of_a_space_may_ask(origin: str) -> None:
    asked = scope("/gradio_api/queue/join", "POST", host="10.0.0.5:7860", origin=origin, content_length="2")
    assert status(asked, SPACE) == 200


@pytest.mark.parametrize("origin", ["https://huggingface.co", "https://evil-lab.hf.space", "http://10.0.0.5:7861"])
def test_any_other_page_may_not_drive_a_space(origin: str) -> None:
    asked = scope("/gradio_api/queue/join", "POST", host="10.0.0.5:7860", origin=origin, content_length="2")
    assert status(asked, SPACE) == 403


def test_the_proxy_of_a_space_may_name_its_host_and_nothing_else_may() -> None:
    forwarded = {"origin": "https://other.hf.space", "x_forwarded_host": "other.hf.space"}
    assert status(scope(**forwarded), SPACE) == 200
    assert status(scope(**forwarded), LOCAL) == 403


def test_the_own_origin_is_the_host_with_its_port() -> None:
    def own(origin: str, host: str, **values: str) -> bool:
        return own_origin(Settings(_env_file=None, **values), Headers({"origin": origin, "host": host}))

    assert own("http://localhost:7860", "localhost:7860")
    assert own("http://LOCALHOST:7860", "localhost:7860")
    assert own("http://[::1]:7860", "[::1]:7860")
    assert own("https://lab.example.org", "lab.example.org")
    assert own("https://lab.example.org", "127.0.0.1:7860", lab_hosts="lab.example.org, other")
    assert not own("https://lab.example.org:8443", "127.0.0.1:7860", lab_hosts="lab.example.org")
    assert own("https://lab.example.org:8443", "127.0.0.1:7860", lab_hosts="lab.example.org:8443")


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_origin_is_own_but_the_own(origin: str) -> None:
    headers = Headers(raw=[(b"host", HOST.encode()), (b"origin", origin.encode("utf-8", "replace"))])
    assert not own_origin(LOCAL, headers) or origin.lower() in (f"http://{HOST}", f"https://{HOST}")


@pytest.mark.parametrize("place", [LOCAL, SPACE])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_neither_posts_nor_embeds_nor_reads(site: str, place: Settings) -> None:
    for dest, mode in [("empty", "cors"), ("image", "no-cors"), ("script", "no-cors"), ("style", "no-cors")]:
        asked = {"sec_fetch_site": site, "sec_fetch_dest": dest, "sec_fetch_mode": mode}
        assert status(scope("/", **asked), place) == 403
        assert status(scope("/gradio_api/queue/join", "POST", content_length="2", **asked), place) == 403


@pytest.mark.parametrize("place", [LOCAL, SPACE])
def test_a_link_on_another_site_opens_the_page_and_nothing_else(place: Settings) -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert status(scope("/", **link), place) == 200
    assert status(scope("/login/callback", **link), place) == 200  # the Hub's login comes back this way
    for path in ("/gradio_api/file=/tmp/x.png", "/config", "/logout", "/gradio_api/info"):
        assert status(scope(path, **link), place) == 403
    assert status(scope("/gradio_api/queue/join", "POST", content_length="2", **link), place) == 403


def test_only_a_space_is_shown_in_a_frame_of_another_site() -> None:
    frame = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
    assert status(scope("/", **frame), SPACE) == 200
    assert status(scope("/", **frame), LOCAL) == 403
    for dest in ("embed", "object", "frame", ""):
        assert status(scope("/", **frame | {"sec_fetch_dest": dest}), SPACE) == 403


def test_a_foreign_preflight_is_not_answered(app: App) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(app.url + "/gradio_api/queue/join", headers=asked)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "line",
    [
        b"Origin: http://127.0.0.1\r\nOrigin: https://evil.example\r\n",
        b"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
        b"Host: evil.example\r\n",
    ],
)
def test_a_header_that_is_sent_twice_is_refused(app: App, line: bytes) -> None:
    assert b" 400 " in first_line(app, b"GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\n" + line + b"\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /config HTTP/1.0\r\n\r\n",
        b"GET /config HTTP/1.1\r\nHost: a@127.0.0.1\r\n\r\n",
        b"GET /config HTTP/1.1\r\nHost: localhost.\r\n\r\n",
        b"GET http://evil.example/config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
def test_a_host_that_only_looks_like_ours_is_refused(app: App, head: bytes) -> None:
    assert first_line(app, head).split()[1] in (b"403", b"404")


def first_line(app: App, head: bytes) -> bytes:
    with socket.create_connection(urlsplit(app.url).netloc.split(":")) as line:  # type: ignore[arg-type]
        line.sendall(head)
        return line.recv(200).split(b"\r\n")[0]


# --- routes ------------------------------------------------------------------------------------------------------


def get(app: App, path: str) -> http.client.HTTPResponse:
    """GET a path to the letter: other clients tidy it first."""
    name, port = urlsplit(app.url).netloc.split(":")
    line = http.client.HTTPConnection(name, int(port), timeout=10)
    line.putrequest("GET", quote(path, safe="".join(map(chr, range(33, 127)))))
    line.endheaders()
    return line.getresponse()


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_route_fetches_an_address(app: App, address: str) -> None:
    for route in ("file=", "file/", "proxy=", "stream/", "%66ile=", "file%3D", "./file=", "x/../file="):
        answer = get(app, f"/gradio_api/{route}{address}")
        assert answer.status in (403, 404), route
        assert answer.getheader("content-type", "").startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/component_server/"),
        ("GET", "/gradio_api/deep_link?session_hash=a"),
        ("GET", "/?deep_link=abc"),
        ("GET", "/config?deep_link=abc"),
        ("POST", "/gradio_api/stream/abc"),
        ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/gradio_api/run-history/connect"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/gradio_api/custom_component/a/b/c/d.js"),
        ("POST", "/login"),
        ("GET", "/docs"),
        ("GET", "//config"),
        ("PUT", "/"),
        ("DELETE", "/config"),
        ("TRACE", "/"),
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(app: App, method: str, path: str) -> None:
    assert httpx.request(method, app.url + path).status_code in (403, 404, 405)


def test_dots_lead_nowhere(app: App) -> None:
    for path in (
        "/static/../../../app.py",
        "/static/%2e%2e/%2e%2e/app.py",
        "/assets/..%2f..%2fapp.py",
        "/static/../config",
    ):
        assert get(app, path).status in (403, 404)


def test_a_body_of_unknown_length_is_refused(app: App) -> None:
    with socket.create_connection(urlsplit(app.url).netloc.split(":")) as line:  # type: ignore[arg-type]
        line.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in line.recv(200)
    both = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 411 " in first_line(app, b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\n" + both)


# --- files -------------------------------------------------------------------------------------------------------


def uploaded(app: App, name: str, body: bytes) -> httpx.Response:
    path = httpx.post(app.url + "/gradio_api/upload", files={"files": (name, body)}).json()[0]
    return httpx.get(f"{app.url}/gradio_api/file={path}")


@pytest.mark.parametrize(
    "name", ["page.html", "page.htm", "page.svg", "page.xhtml", "page.xml", "page.pdf", "page.js", "page", "page.txt"]
)
def test_an_uploaded_file_never_runs_as_a_page(app: App, name: str) -> None:
    answer = uploaded(app, name, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_an_image_is_shown_and_cannot_be_anything_else(app: App) -> None:
    answer = uploaded(app, "page.png", b"<script>alert(1)</script>")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_elsewhere_is_not_served(app: App) -> None:
    for path in ("/etc/passwd", "env.template", str(app.home / "app.log"), "/proc/self/environ", "~/.bashrc"):
        assert httpx.get(f"{app.url}/gradio_api/file={path}").status_code in (403, 404)


def test_a_link_out_of_the_upload_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "link.png").symlink_to("/etc/passwd")
    (tmp_path / "files" / "own.png").write_bytes(b"x")
    limits = VisitorLimits(None, LOCAL, tmp_path / "files", None)  # type: ignore[arg-type]
    assert limits._is_own_file(str(tmp_path / "files" / "own.png"))
    for name in ("link.png", "../files/absent.png", "", "a" * 5000, "own.png\0"):
        assert not limits._is_own_file(str(tmp_path / "files" / name))
    assert not limits._is_own_file("files/own.png")


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "README.md", "FIFO", "/dev/zero", "/absent.csv"])
def test_a_call_cannot_have_a_file_of_the_machine_read(app: App, path: str, tmp_path: Path) -> None:
    """Gradio copies a file that a call names before the handler runs; a pipe or a device would hold the server."""
    if path == "FIFO":
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
    config = httpx.get(app.url + "/config").json()
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == "conversation_json")
    file = {"path": path, "orig_name": "a.csv", "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [file, None], "fn_index": number, "session_hash": "files"}
    httpx.post(app.url + "/gradio_api/queue/join", json=asked).raise_for_status()
    with httpx.stream("GET", app.url + "/gradio_api/queue/data?session_hash=files", timeout=20) as answer:
        text = "".join(answer.iter_text())
    assert '"success":false' in text and "peft-lab-" not in text and str(tmp_path) not in text
    assert httpx.get(app.url + "/robots.txt", timeout=5).status_code == 200


# --- headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/nowhere", "/theme.css"])
def test_every_answer_carries_the_headers(app: App, path: str) -> None:
    headers = httpx.get(app.url + path).headers
    policy = headers["content-security-policy"]
    assert "img-src 'self'" in policy and "form-action 'self'" in policy and "default-src 'self'" in policy
    assert policy.endswith("; frame-ancestors 'self'") and "huggingface" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_space_may_be_framed_by_the_hub() -> None:
    rules = middleware.RequestRules(None, SPACE, asyncio.Event())  # type: ignore[arg-type]
    assert rules.policy.endswith("frame-ancestors 'self' https://huggingface.co https://*.huggingface.co")


def test_an_owner_s_body_has_a_limit_too(app: App) -> None:
    with socket.create_connection(urlsplit(app.url).netloc.split(":")) as line:  # type: ignore[arg-type]
        line.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in line.recv(200)


def test_a_call_of_the_own_page_passes(app: App) -> None:
    headers = {"Origin": app.url, "Sec-Fetch-Site": "same-origin"}
    body = json.dumps({"data": ["none"]})
    answer = httpx.post(
        app.url + "/gradio_api/call/chat_preset", content=body, headers=headers | {"Content-Type": "application/json"}
    )
    assert answer.status_code == 200 and "event_id" in answer.json()
