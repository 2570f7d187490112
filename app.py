"""python app.py: settings, lab, page, server; the engines are closed on the way out."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# After each call, Gradio summarises all calls before it with pandas, for a monitoring page that is off here.
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
# Gradio reads this when it is imported. A folder of our own: the default is shared by all Gradio apps and users.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix=f"peft-lab-{os.getpid()}-")

import psutil

from backend.core.errors import LabError
from backend.core.machine import past_proxies
from backend.core.settings import Settings, settings_from_environment
from backend.lab import Lab


def main() -> None:
    try:
        os.environ.update(past_proxies())  # the Hub's client in this process reads it, too
        settings = settings_from_environment()
        listening = listen(settings)
    except LabError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the engines are closed then, too
    # After all that can be refused at once: importing Gradio takes seconds.
    from app.page import create_ui, server  # noqa: PLC0415

    with contextlib.suppress(KeyboardInterrupt), Lab(settings) as lab:
        server(create_ui(lab), settings, listening).run()


def listen(settings: Settings) -> socket.socket:
    """The socket of the web server. LabError if its port cannot be used."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.lab_host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.lab_host, settings.port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise LabError(
            f"Port {settings.port} of {settings.lab_host} cannot be used: another program has it, or it is not "
            f"yours to take. Choose another one: PORT={settings.port + 1} make run"
        ) from error
    return listening


def remove_temporary_folders() -> None:
    """Remove this process's folder of uploads, and those that killed ones left behind."""
    for folder in Path(tempfile.gettempdir()).glob("peft-lab-*"):
        owner = folder.name.removeprefix("peft-lab-").partition("-")[0]
        if owner == str(os.getpid()) or (owner.isdecimal() and not psutil.pid_exists(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        remove_temporary_folders()
