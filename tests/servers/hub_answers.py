"""What the double of the Hub answers, right or wrong; hub.py holds what there is to answer with."""

import contextlib
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from servers.hub import Fault, Hub, Repo

TOKEN = "hf_double"  # the one who holds it may read what is private or gated
LARGE = re.compile(r"\.(gguf|safetensors|bin|pt|pth)$")
PIECE = 1 << 16
# Answers instead of the right one: status, X-Error-Code, X-Error-Message.
REFUSALS = {
    "unauthorised": (401, "", "Invalid credentials in Authorization header"),
    "gated": (403, "GatedRepo", "Access to this model is restricted and you are not in the authorized list."),
    "no repository": (404, "RepoNotFound", "Repository not found"),
    "no revision": (404, "RevisionNotFound", "Invalid rev id"),
    "no file": (404, "EntryNotFound", "Entry not found"),
    "busy": (429, "", "Too many requests"),
    "broken": (500, "", "Internal error"),
    "away": (503, "", "Service unavailable"),
}
BODIES = ("wrong", "cut", "drip", "stall")  # what can be wrong with a file that is sent


@dataclass(frozen=True)
class Blob:
    """The content of a file: in memory, or on disk when it is large."""

    size: int
    oid: str
    """sha256 of a large file, git's sha1 of a small one."""
    data: bytes = b""
    file: Path | None = None

    @property
    def large(self) -> bool:
        return len(self.oid) == 64

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        if self.file is None:
            yield from (self.data[at : min(at + PIECE, end)] for at in range(start, end, PIECE))
            return
        with self.file.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(PIECE, end - start))):
                start += len(piece)
                yield piece


def blob_of(path: str, data: bytes | Path) -> Blob:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    digest = hashlib.sha256() if LARGE.search(path) else hashlib.sha1(b"blob %d\0" % size)
    if isinstance(data, bytes):
        digest.update(data)
        return Blob(size, digest.hexdigest(), data)
    with data.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return Blob(size, digest.hexdigest(), file=data)


class Answer(BaseHTTPRequestHandler):
    """One connection."""

    hub: "Hub"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body: bytes = b"") -> None:
        self.hub.log.append((self.command, self.path, dict(self.headers)))
        self.where = urlsplit(self.path)
        self.parts = [unquote(part) for part in self.where.path.strip("/").split("/")]
        if fault := self.hub.due(self.command, unquote(self.where.path), bodies=False):
            return self.go_wrong(fault)
        match self.parts:
            case ["api", "models" | "datasets" as kind, owner, name, *rest]:
                prefix = "" if kind == "models" else kind + "/"
                self.tell(f"{prefix}{owner}/{name}", rest, body)
            case ["cdn", owner, name, commit, *path]:
                self.send_blob(self.hub.repos[f"{owner}/{name}"].commits[commit]["/".join(path)])
            case ["datasets", owner, name, "resolve", revision, *path]:
                self.resolve(f"datasets/{owner}/{name}", revision, "/".join(path))
            case [owner, name, "resolve", revision, *path]:
                self.resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self.send_json({"error": "Not found"}, 404)

    def go_wrong(self, fault: "Fault") -> None:
        if fault.kind in REFUSALS:
            wait = fault.options.get("retry_after")
            return self.refuse(fault.kind, {} if wait is None else {"Retry-After": str(wait)})
        if fault.kind == "endless":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b'{"id": "a/b", "siblings": [')
            while not self.hub.stopped.wait(0.01):
                self.wfile.write(b'{"rfilename": "x.gguf"},' * 2000)
            return None
        if fault.kind == "page":
            return self.send_bytes(b"<html><title>Sign in to this network</title></html>", "text/html")
        places = {"loop": self.hub.url + self.path, "elsewhere": f"http://127.0.0.1:9{self.where.path}"}
        return self.send_bytes(b"", status=302, headers={"Location": places[fault.kind]})

    def refuse(self, kind: str, headers: dict[str, str]) -> None:
        status, code, message = REFUSALS[kind]
        self.send_json({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message} | headers)

    def find(self, name: str, revision: str) -> "tuple[Repo, str] | None":
        """The repository and the commit meant, unless the refusal has been sent."""
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization", "")
        if repo is None or (repo.private and token != f"Bearer {TOKEN}"):
            self.send_json({"error": "Repository not found"}, 404 if token else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repo.branches.get(revision) or (revision if revision in repo.commits else "")
        if not commit:
            self.refuse("no revision", {})
            return None
        return repo, commit

    def bars(self, repo: "Repo") -> bool:
        """Whether the repository is gated for the one who asks, who has been told."""
        token = self.headers.get("Authorization", "")
        barred = repo.gated and token != f"Bearer {TOKEN}"
        if barred:
            code = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            self.send_json({"error": "restricted"}, 403 if token else 401, code)
        return barred

    def tell(self, name: str, rest: list[str], body: bytes) -> None:
        """The API."""
        revision = rest[1] if len(rest) > 1 else "main"
        found = self.find(name, revision)
        if found is None:
            return
        repo, commit = found
        files, asked = repo.commits[commit], parse_qs(self.where.query)
        if rest[:1] == ["refs"]:
            branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c} for b, c in repo.branches.items()]
            return self.send_json({"branches": branches, "tags": [], "converts": []})
        if rest[:1] == ["auth-check"]:
            return None if self.bars(repo) else self.send_json({})
        if rest[:1] == ["tree"]:
            deep = asked.get("recursive", ["false"])[0].lower() in ("1", "true")
            return self.send_json(listing(files, "/".join(rest[2:]), deep))
        if rest[:1] == ["paths-info"]:
            paths = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            return self.send_json([row(path, files[path]) for path in paths if path in files])
        siblings = [sibling(path, blob, "blobs" in asked) for path, blob in sorted(files.items())]
        gguf = {"architecture": "llama", "context_length": 1024} if any(p.endswith(".gguf") for p in files) else None
        plain = name.removeprefix("datasets/")
        facts: dict[str, Any] = {"id": plain, "modelId": plain, "sha": commit, "private": repo.private, "tags": []}
        facts |= {"gated": "manual" if repo.gated else False, "disabled": False, "siblings": siblings}
        return self.send_json(facts | ({"gguf": gguf} if gguf else {}) | repo.facts)

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.find(name, revision)
        if found is None:
            return
        repo, commit = found
        if self.bars(repo):
            return None
        blob, commits = repo.commits[commit].get(path), {"X-Repo-Commit": commit}
        if blob is None:
            return self.refuse("no file", commits)
        if not blob.large:
            return self.send_blob(blob, commits)
        linked = {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(blob.size)}
        place = {"Location": f"{self.hub.cdn}/cdn/{quote(name)}/{commit}/{quote(path)}"}
        return self.send_bytes(b"", status=302, headers=commits | linked | place)

    def send_blob(self, blob: Blob, headers: dict[str, str] | None = None) -> None:
        start, end, status = 0, blob.size, 200
        head = {"ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"} | (headers or {})
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end, status = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else blob.size, 206
            head["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        self.send_response(status)
        for key, value in (head | {"Content-Length": str(end - start), "Content-Type": "binary/octet-stream"}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self.hub.due("GET", unquote(self.where.path), bodies=True)
        if fault:
            self.spoil(fault, blob, start, end)
        elif blob.file:
            with blob.file.open("rb") as file:
                self.connection.sendfile(file, start, end - start)
        else:
            self.connection.sendall(memoryview(blob.data)[start:end])

    def spoil(self, fault: "Fault", blob: Blob, start: int, end: int) -> None:
        """Send a file, but not as it should be."""
        if fault.kind == "drip":
            return self.drip(fault, blob, start, end)
        last = {"cut": int(blob.size * fault.options.get("at", 0.6)), "stall": fault.options.get("after", 0)}
        at, bad = start, blob.size // 2
        for piece in blob.pieces(start, max(start, min(end, last.get(fault.kind, end)))):
            if fault.kind == "wrong" and at <= bad < at + len(piece):
                piece = piece[: bad - at] + bytes([piece[bad - at] ^ 1]) + piece[bad - at + 1 :]
            self.connection.sendall(piece)
            at += len(piece)
        if fault.kind == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.kind == "stall":
            self.close_connection = True
            self.wait(lambda: not self.connection.recv(1, socket.MSG_PEEK))  # until the client has had enough
        return None

    def drip(self, fault: "Fault", blob: Blob, start: int, end: int) -> None:
        """Send slowly for as long as the fault is there; `clear` lets the rest through at once."""
        sent, part = start, max(1, fault.options["rate"] // 20)
        while sent < end and not self.hub.stopped.wait(0.05):
            last = min(end, sent + part) if fault in self.hub.faults else end
            for piece in blob.pieces(sent, last):
                self.connection.sendall(piece)
            sent = last

    def wait(self, done: Callable[[], bool]) -> None:
        self.connection.settimeout(0.1)
        while not self.hub.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                if done():
                    return

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(json.dumps(value).encode(), "application/json", status, headers)

    def send_bytes(
        self, body: bytes, kind: str = "text/plain", status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in ((headers or {}) | {"Content-Type": kind, "Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def sibling(path: str, blob: Blob, sizes: bool) -> dict[str, Any]:
    if not sizes:
        return {"rfilename": path}
    large = {"lfs": {"sha256": blob.oid, "size": blob.size, "pointerSize": 130}} if blob.large else {}
    return {"rfilename": path, "size": blob.size, "blobId": blob.oid[:40], **large}


def listing(files: dict[str, Blob], under: str, deep: bool) -> list[dict[str, Any]]:
    """What is in a folder: files and folders; with `deep`, all that is below it."""
    prefix = under + "/" if under else ""
    inside = {path: path[len(prefix) :].split("/") for path in sorted(files) if path.startswith(prefix)}
    folders = {prefix + "/".join(steps[:n]) for steps in inside.values() for n in range(1, len(steps) if deep else 2)}
    found = [row(path, files[path]) for path, steps in inside.items() if deep or len(steps) == 1]
    return [
        *({"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders - set(files))),
        *found,
    ]


def row(path: str, blob: Blob) -> dict[str, Any]:
    large = {"lfs": {"oid": blob.oid, "size": blob.size, "pointerSize": 130}} if blob.large else {}
    return {"type": "file", "path": path, "size": blob.size, "oid": blob.oid[:40], **large}
