"""The page: its tabs, and how it is served."""

import gradio as gr
from starlette.middleware import Middleware

from app.chat import chat_tab
from app.compare import compare_tab
from app.guard import Doorman, fetch_nothing
from app.judge import judge_tab
from app.library import library_tab
from app.runs import runs_tab
from app.train import train_tab
from backend.lab import Lab
from backend.settings import Settings

TITLE = """# PEFT Lab
Talk to small Llama models on this CPU, compare them side by side, fine-tune them, and find out honestly whether
the fine-tune got better.
"""


def create_ui(lab: Lab) -> gr.Blocks:
    """Build the page; nothing is started."""
    with gr.Blocks(title="PEFT Lab", analytics_enabled=False, delete_cache=(86400, 86400)) as page:
        gr.Markdown(TITLE)
        if lab.settings.space_id:
            gr.LoginButton()
        with gr.Tabs() as tabs:
            chat_tab(lab)
            compare_tab(lab)
            train_tab(lab, tabs)
            runs_tab(lab)
            judge_tab(lab)
            library_tab(lab)
    page.queue(max_size=64, api_open=False)
    return page


def serve(page: gr.Blocks, settings: Settings) -> None:
    """Launch the page and return. Telemetry, sharing, monitoring and the run history stay off. OSError: no port."""
    fetch_nothing()
    page.launch(
        server_name=settings.lab_host,
        server_port=settings.port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        max_file_size="20gb",
        blocked_paths=[str(settings.lab_runs), str(settings.lab_weights)],
        footer_links=["api"],
        app_kwargs={"middleware": [Middleware(Doorman, settings=settings)]},
        theme=gr.themes.Soft(),
    )
