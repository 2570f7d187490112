"""Requests as a server hands them to an ASGI app, and places they reach."""

from typing import Any

from backend.core.settings import Settings

HOST = "127.0.0.1:7860"
LOCAL = Settings(_env_file=None)
SPACE = Settings(
    _env_file=None,
    space_id="me/lab",
    space_creator_user_id="u1",
    oauth_client_secret="s3cret",
    space_host="me-lab.hf.space,lab.example.org",
)


def scope(path: str = "/", method: str = "GET", query: str = "", client: str = "9.9.9.9", **headers: str) -> Any:
    names = {"host": HOST} | {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in names.items()],
        "client": (client, 1),
    }
