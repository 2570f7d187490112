"""python app.py: settings, lab, page, server; the engines are closed on the way out."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Gradio reads this when it is imported. A folder of our own: the default is shared by all Gradio apps and users.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix=f"peft-lab-{os.getpid()}-")

import psutil

from app.page import create_ui, server
from backend.core.errors import LabError
from backend.core.machine import past_proxies
from backend.core.settings import settings_from_environment
from backend.lab import Lab


def main() -> None:
    try:
        os.environ.update(past_proxies())  # the Hub's client in this process reads it, too
        settings = settings_from_environment()
    except LabError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the engines are closed then, too
    with contextlib.suppress(KeyboardInterrupt), Lab(settings) as lab:
        page = create_ui(lab)
        try:
            serving = server(page, settings)
        except OSError:
            sys.exit(
                f"Port {settings.port} of {settings.lab_host} cannot be used: another program has it, or it is not "
                f"yours to take. Choose another one: PORT={settings.port + 1} make run"
            )
        serving.run()


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
