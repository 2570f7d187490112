"""A judge on loopback that speaks the OpenAI chat API, and the faults it can have.

In tests/: python -m servers.judge --port 0      prints its address and grades every answer alike

In a test: `with JudgeServer() as judge:` and the address is `judge.url`. What it answers next is scripted with
`judge.next(Reply(...), ...)`; after that, and without a script, `judge.rule` answers, which grades everything alike.
"""

import argparse
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "judge-1"
GRADE = {
    "evidence": "It says so.",
    "correctness": 4,
    "completeness": 4,
    "faithfulness": 4,
    "flags": [],
    "cannot_judge": False,
}


@dataclass
class Reply:
    """One answer. `cut`: bytes of the body after which the connection is reset. `drip`: seconds between two bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: int = -1


Rule = Callable[[dict[str, Any]], Reply]


def graded(text: str | None = None, model: str = MODEL, finish: str | None = "stop", **more: Any) -> Reply:
    """A whole answer with the text. `more`: message, choice and body fields by name, e.g. refusal, logprobs, usage."""
    message = {"role": "assistant", "content": json.dumps(GRADE) if text is None else text}
    message |= {name: more.pop(name) for name in ("refusal", "content") if name in more}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    choice |= {name: more.pop(name) for name in ("logprobs",) if name in more}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
    return Reply({name: value for name, value in (body | more).items() if value is not None})


def refused(status: int, message: str, headers: dict[str, str] | None = None, **error: Any) -> Reply:
    """An error as OpenAI sends it: code, param, type."""
    return Reply({"error": {"message": message, **error}}, status, headers or {})


def chances(text: str) -> dict[str, Any]:
    """Log probabilities of a text in today's shape: a token per word or mark."""
    pieces = re.findall(r"\w+|\W", text)
    others = [{"token": "3", "logprob": -2.0, "bytes": None}]
    return {
        "content": [
            {"token": one, "logprob": -0.1, "top_logprobs": [{"token": one, "logprob": -0.1}, *others]}
            for one in pieces
        ]
    }


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits for an acknowledgement
    server: "_Server"

    def do_POST(self) -> None:
        judge = self.server.judge
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        reply = judge.began(self.path, body, dict(self.headers.items()))
        try:
            self._send(reply)
        except OSError:
            self.close_connection = True  # the client had enough
        finally:
            judge.ended()

    def _send(self, reply: Reply) -> None:
        self.server.judge.over.wait(reply.delay)
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = {} if isinstance(reply.body, bytes) else {"Content-Type": "application/json"}
        self.send_response(reply.status)
        for name, value in ({"Content-Length": str(len(raw))} | kind | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if reply.drip:
            for byte in raw:
                self.wfile.write(bytes((byte,)))
                if self.server.judge.over.wait(reply.drip):
                    break
        elif reply.cut >= 0:
            self.wfile.write(raw[: reply.cut])
            time.sleep(0.05)  # what was written arrives before the reset does
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    judge: "JudgeServer"


class JudgeServer:
    """The server, what it was asked, and what it answers next. Start it with `with`."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.rule: Rule = lambda body: graded(model=body.get("model", MODEL))
        self.peak = 0
        self.over = threading.Event()
        self._now = 0
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", port), Answering)
        self.server.judge = self
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> int:
        return len(self.bodies)

    def next(self, *replies: Reply) -> None:
        """What the next calls get, in this order."""
        self._script.extend(replies)

    def picky(self, *names: str, status: int = 400, say: str = "Unsupported parameter: '{}'") -> None:
        """From now on refuse questions with one of these parameters. `json_schema` and `json_object` count as such."""

        def rule(body: dict[str, Any]) -> Reply:
            asked = {*body, (body.get("response_format") or {}).get("type", "")}
            wrong = next((name for name in names if name in asked), "")
            return refused(status, say.format(wrong)) if wrong else graded(model=body["model"])

        self.rule = rule

    def began(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.paths.append(path)
            self.times.append(time.monotonic())
            self._now += 1
            self.peak = max(self.peak, self._now)
            return self._script.popleft() if self._script else self.rule(body)

    def ended(self) -> None:
        with self._lock:
            self._now -= 1

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A judge that grades every answer alike.")
    parser.add_argument("--port", type=int, default=0)
    judge = JudgeServer(parser.parse_args().port)
    print(judge.url, flush=True)
    judge.server.serve_forever()


if __name__ == "__main__":
    main()
