"""A session of the app through its API, as a browser tab is one."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import itsdangerous
from conftest import App
from gradio_client import Client

SAMPLING: dict[str, Any] = {
    "temperature": 0.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
    "seed": 7,
    "max_tokens": 40,
    "grammar": "",
}
ENDLESS = {"grammar": 'root ::= "la " root', "max_tokens": 900}
CAPITAL = "What is the capital of France?"
SLOW = "/slow " + "la " * 80  # echo takes 0.05 s a word: time enough to stop it on any machine


class Visitor:
    """A session, as a browser tab is one."""

    def __init__(self, app: App) -> None:
        self.client = Client(app.url, verbose=False, analytics_enabled=False, download_files=False)

    def chat(
        self, text: str, variant: str = "tiny_base", way: str = "as trained", system: str = "", **asked: Any
    ) -> Any:
        values = (SAMPLING | asked).values()
        return self.client.submit(text, variant, way, system, *values, api_name="/chat")

    def said(self, job: Any) -> list[str]:
        """The texts of the conversation when the job has ended."""
        return texts(job.result(60)[1])

    def compare(self, text: str, *variants: str, blind: bool = False, pace: str = "together", **asked: Any) -> Any:
        picked = [*variants, "none", "none"][:4]
        return self.client.submit(text, *picked, blind, pace, "", *(SAMPLING | asked).values(), api_name="/compare")

    def table(self, first: str) -> list[list[Any]]:
        """The rows of the Library's table whose first heading this is."""
        values = self.client.predict(api_name="/library")
        return next(v["data"] for v in values if isinstance(v, dict) and v.get("headers", [""])[0] == first)


def texts(history: list[dict[str, Any]]) -> list[str]:
    """What a person reads in each message of a chat."""
    return [read(message) for message in htmls(history)]


def htmls(history: list[dict[str, Any]]) -> list[str]:
    """The HTML of each message of a chat."""
    return [message["content"][0]["text"] for message in history]


class _Reader(HTMLParser):
    """Text of HTML as a browser shows it: blocks begin a line, and line breaks of the source count in a `pre` alone."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.kept, self.first = "", False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("p", "pre", "div", "li", "tr", "br", "h1", "h2", "h3") and self.text and self.text[-1] != "\n":
            self.text += "\n"
        self.kept, self.first = self.kept or tag == "pre", tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self.kept = self.kept and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data.removeprefix("\n" if self.first else "") if self.kept else data.strip("\n")
        self.first = False


def read(html: str) -> str:
    """The text that HTML shows."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def cookie(user: str) -> dict[str, str]:
    """What Hugging Face's login leaves in the browser, signed with the Space's own secret."""
    data = base64.b64encode(json.dumps({"oauth_info": {"userinfo": {"sub": user}}}).encode())
    key = hashlib.sha256(b"s3cret-v4").hexdigest()
    return {"Cookie": "session=" + itsdangerous.TimestampSigner(key).sign(data).decode()}
