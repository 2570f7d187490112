"""python app.py: settings, lab, page, launch; the engines are closed on the way out."""

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from app.ui import create_ui, serve
from backend.lab import Lab
from backend.settings import Settings


def main() -> None:
    settings = Settings()
    with Lab(settings) as lab:
        page = create_ui(lab)
        print(f"PEFT Lab: open http://{settings.lab_host}:{settings.port} (Ctrl-C ends it)", flush=True)
        try:
            serve(page, settings)
        except OSError as error:
            sys.exit(f"PEFT Lab could not start: {error} Choose another port: PORT=7861 python app.py")


if __name__ == "__main__":
    main()
