"""A double of the Hugging Face Hub for the real client, and the faults it can have.

In tests/: python -m servers.hub --port 0 --folder DIR      serves DIR/owner/name/** and prints its port

In a test: `with Hub() as hub: hub.add("owner/name", "model.gguf", b"...")`, and the client's HF_ENDPOINT is `hub.url`.
Large files are redirected to another host name of the same server, as the Hub redirects to its CDN.
"""

import argparse
import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from servers.hub_answers import BODIES, Answer, Blob, blob_of


@dataclass
class Repo:
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    """Fields of the model's information as they are: cardData, gguf, config, tags."""


@dataclass
class Fault:
    pattern: str
    kind: str
    left: float
    method: str
    options: dict[str, Any]


class Hub:
    """The server and what it holds. Start it with `with`."""

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Answer,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url, self.cdn = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"

    def start(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> "Hub":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(
        self, repo: str, path: str, data: bytes | Path, branch: str = "main", repo_type: str = "model", **facts: Any
    ) -> str:
        """One file, in a commit of its own, which is returned. `gated` and `private` hold for the whole repository."""
        return self.fill(repo, {path: blob_of(path, data)}, branch, repo_type, **facts)

    def fill(
        self, repo: str, files: dict[str, Blob], branch: str = "main", repo_type: str = "model", **facts: Any
    ) -> str:
        """Many files in one commit; no files make an empty one."""
        found = self.repos.setdefault(("" if repo_type == "model" else f"{repo_type}s/") + repo, Repo())
        found.gated, found.private = facts.pop("gated", found.gated), facts.pop("private", found.private)
        found.facts |= facts
        commit = hashlib.sha1(f"{repo} {next(self._numbers)}".encode()).hexdigest()
        found.commits[commit] = found.commits.get(found.branches.get(branch, ""), {}) | files
        found.branches[branch] = commit
        return commit

    def move(self, repo: str, branch: str = "main") -> str:
        """The branch goes on to a new commit with the same files."""
        return self.fill(repo, {}, branch)

    def fault(self, pattern: str, kind: str, times: float = float("inf"), method: str = "", **options: Any) -> None:
        """From now on requests whose path is like `pattern` go wrong, `times` times.

        REFUSALS, with `retry_after` seconds; loop; elsewhere; page; endless (a listing); of a file that is sent: wrong,
        cut (`at` a share of it), drip (`rate` bytes per second), stall (`after` bytes), for GET only.
        """
        self.faults.append(Fault(pattern, kind, times, "GET" if kind in BODIES else method, options))

    def clear(self) -> None:
        self.faults.clear()
        self.log.clear()

    def requests(self, method: str = "", part: str = "") -> list[tuple[str, str, dict[str, str]]]:
        """What was asked so far: method, path with query, headers."""
        return [entry for entry in self.log if method in ("", entry[0]) and part in entry[1]]

    def due(self, method: str, path: str, bodies: bool) -> Fault | None:
        """The fault this request meets, which counts as one of its times."""
        with self._lock:
            for fault in self.faults:
                fits = fault.left > 0 and fault.method in ("", method) and (fault.kind in BODIES) == bodies
                if fits and fnmatchcase(path, fault.pattern):
                    fault.left -= 1
                    return fault
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="A double of the Hugging Face Hub.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="owner/name/files")
    options = parser.parse_args()
    hub = Hub(options.port)
    for folder in sorted(options.folder.glob("*/*/")):
        files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        hub.fill("/".join(folder.parts[-2:]), {name: blob_of(name, path) for name, path in files.items()})
    print(hub.port, flush=True)
    hub.server.serve_forever()


if __name__ == "__main__":
    main()
