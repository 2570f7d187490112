"""The page: its tabs, and how it is served."""

import asyncio
import os
import socket
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio.utils import LRUCache
from starlette.middleware import Middleware

from app import forms, markup
from app.chat.tab import chat_tab
from app.compare.tab import compare_tab
from app.guard import fetch_nothing
from app.judge.tab import judge_tab
from app.library.tab import library_tab
from app.middleware import RequestRules
from app.runs.tab import runs_tab
from app.train.tab import train_tab
from app.visitor_limits import GradioQueue, VisitorLimits
from backend.core.settings import Settings
from backend.lab import Lab

TITLE = """# PEFT Lab
Chat with small Llama models on this CPU, compare them side by side, fine-tune them, and find out honestly whether
the fine-tune got better.
"""


SESSIONS = 400  # browser tabs whose state is kept; the least recently used is dropped first
STOP_SECONDS = 1  # for requests in progress when the app is stopped
FONTS = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif")
MONO_FONTS = (gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace")


def create_ui(lab: Lab) -> gr.Blocks:
    """Build the page. Starts nothing."""
    with gr.Blocks(title="PEFT Lab", analytics_enabled=False, delete_cache=(86400, 86400)) as page:
        gr.Markdown(TITLE)
        if lab.settings.space_id:
            gr.LoginButton(icon=None)  # its icon would be a file of this machine
        with gr.Tabs() as tabs:
            chat_tab(lab)
            compare_tab(lab)
            train_tab(lab, tabs)
            runs_tab(lab)
            judge_tab(lab)
            library_tab(lab)
    page.queue(max_size=64, api_open=False)
    return page


def server(page: gr.Blocks, settings: Settings, listening: socket.socket) -> uvicorn.Server:
    """Return a web server for the page on a socket that listens; `run` serves until Ctrl-C or SIGTERM.

    Gradio is mounted in our own FastAPI app for two reasons: its `launch` sends a request to itself through the proxies
    of the environment, and `RequestRules` must run before its CORS middleware. Telemetry, sharing, monitoring and the
    run history are off.
    """
    files = Path(os.environ["GRADIO_TEMP_DIR"])
    limits = Middleware(VisitorLimits, settings=settings, files=files, queue=GradioQueue(page))
    fetch_nothing()
    forms.check_bounds_in_parse()
    page.state_session_capacity = SESSIONS
    page._queue.pending_messages_per_session = LRUCache(SESSIONS)  # also for sessions that never read their messages
    page.is_running = True  # otherwise streams send no heartbeats
    page.has_launched = True  # otherwise Gradio reads any file whose path is in a call
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        page,
        path="",
        server_name=settings.lab_host,
        server_port=settings.port,
        footer_links=["api"],
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        max_file_size="20gb",
        blocked_paths=[str(settings.lab_runs.absolute()), str(settings.lab_weights.absolute())],
        app_kwargs={"middleware": [limits]},
        theme=gr.themes.Soft(font=FONTS, font_mono=MONO_FONTS),
        css=markup.CSS,
        head=markup.HEAD,
    )
    stopping = asyncio.Event()
    app.add_middleware(RequestRules, settings=settings, stopping=stopping)
    config = uvicorn.Config(
        app,
        log_level="warning",
        proxy_headers=False,  # `guard.client_address` reads them
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config, listening, stopping)


class _Server(uvicorn.Server):
    """A server on a socket that listens already. It prints its address once it answers."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self.listening, self.stopping = listening, stopping

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self.listening])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping.set()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        print(f"PEFT Lab is open at http://{name}:{port} (Ctrl-C ends it)", flush=True)
