"""As much of Weights & Biases as its client asks for while a run is logged, on loopback. Keeps what it was sent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "WandbServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = json.loads(body) if "/upload/" not in self.path and body[:2] == b'{"' else {}
        self.server.keys.add(_key(self.headers.get("authorization", "")))
        if "/file_stream" in self.path:
            lines = told.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.server.history += [json.loads(line) for line in lines]
        self._send({"data": self._data(told)} if self.path == "/graphql" else {})

    do_PUT = do_GET = do_POST

    def _data(self, told: dict[str, Any]) -> dict[str, Any]:
        query, given = told.get("query", ""), told.get("variables") or {}
        if "upsertBucket" in query:
            project = {"id": "p", "name": given.get("project") or "peft-lab", "entity": {"id": "e", "name": "me"}}
            names = {"id": "b", "name": given.get("name"), "displayName": given.get("displayName")}
            return {"upsertBucket": {"bucket": names | {"project": project}, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {}

    def _send(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _key(header: str) -> str:
    kind, _, coded = header.partition(" ")
    return base64.b64decode(coded).decode().partition(":")[2] if kind == "Basic" else ""


class WandbServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.history: list[dict[str, Any]] = []
        self.keys: set[str] = set()


@contextmanager
def serving() -> Iterator[WandbServer]:
    server = WandbServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
