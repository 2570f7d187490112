"""python app.py: settings, lab, page, launch; the engines are closed on the way out."""

import os
import signal
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from app.ui import create_ui, serve
from backend.lab import Lab
from backend.settings import Settings


def main() -> None:
    settings = Settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the engines are closed then, too
    with Lab(settings) as lab:
        page = create_ui(lab)
        try:
            serve(page, settings)
        except OSError:
            sys.exit(
                f"Port {settings.port} of {settings.lab_host} cannot be used: another program has it, or it is not "
                f"yours to take. Choose another one: PORT={settings.port + 1} make run"
            )
        print(f"PEFT Lab is open at http://{settings.lab_host}:{settings.port} (Ctrl-C ends it)", flush=True)
        page.block_thread()


if __name__ == "__main__":
    main()
