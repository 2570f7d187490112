"""The Compare tab: one prompt to two, three or four variants, side by side, and a vote."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import gradio as gr

from app import forms, guard, markup
from app.browser_download import download_button, hidden_boxes
from app.chat import view as chat_view
from app.compare import comparison
from app.compare.comparison import Comparison, Pace
from app.compare.judge_panel import judge_panel
from app.streams import Streams
from backend.core.messages import Message, clean
from backend.inference.reply import watch
from backend.inference.sampling import Sampling
from backend.judge.votes import YOU, Vote, wins, with_you
from backend.lab import Lab
from backend.report.files import vote_pairs
from models.catalogue import Entry

NONE = "none"
SAME = gr.skip()  # leaves a control as it is
CHOICES: list[tuple[str, int | Literal["tie", "all bad"]]] = [
    *((f"{letter} is better", place) for place, letter in enumerate(chat_view.LETTERS)),
    ("Tie", "tie"),
    ("All bad", "all bad"),
]


def compare_tab(lab: Lab) -> None:
    running = Streams(lab.settings)
    shown = guard.shown(lab.settings)
    paces = list(get_args(Pace))

    # components
    first = [_options(lab.entries(), place) for place in range(4)]
    with gr.Tab("Compare", id="compare") as tab:
        match = gr.State(Comparison(), time_to_live=guard.state_seconds(lab.settings))
        with gr.Row():
            pickers = [
                gr.Dropdown(options, value=_default(options, place), label=f"Variant {letter}", min_width=160)
                for place, (letter, options) in enumerate(zip(chat_view.LETTERS, first, strict=True))
            ]
        with gr.Row():
            blind = gr.Checkbox(False, label="Blind", info="Names hidden, order shuffled, until you have voted.")
            pace = gr.Radio(paces, value=paces[0], label="Pace")
        columns, heads, chatbots = [], [], []
        with gr.Row():
            for place, letter in enumerate(chat_view.LETTERS):
                with gr.Column(min_width=240, visible=place < 2) as column:
                    heads.append(gr.Markdown(f"**{letter}**"))
                    chatbots.append(
                        gr.Chatbot(
                            label=letter,
                            show_label=False,
                            height=320,
                            buttons=["copy"],
                            feedback_options=None,
                            **markup.CHATBOT,
                        )  # fmt: skip
                    )
                columns.append(column)
        with gr.Row():
            text = gr.Textbox(label="Prompt for all", scale=6, lines=1, max_lines=8)
            send = gr.Button("Send to all", variant="primary", scale=1, min_width=100)
            stop = gr.Button("Stop all", variant="stop", scale=1, min_width=80)
            new = gr.Button("Start over", scale=1, min_width=100)
        with gr.Row():
            buttons = [gr.Button(label, size="sm", visible=False) for label, _ in CHOICES]
            reveal = gr.Button("Reveal names", size="sm", visible=False)
        status = gr.Markdown("", elem_id="vote-status")
        with gr.Accordion("System prompt, and how the next token is chosen", open=False):
            system = gr.Textbox(label="System prompt for all", lines=2, value="")
            sampling = forms.draw(Sampling, " (all)")
        said = judge_panel(lab, match, tab)
        table = gr.Dataframe(chat_view.wins([]), headers=chat_view.WINS, label="Your votes so far", interactive=False)
        gr.Markdown("A few votes are an impression, not a result: two equal models also win and lose by chance.")
        agreed = gr.Markdown()
        save = gr.Button("Save your votes as preference pairs", size="sm")
        saved = hidden_boxes("Saved votes")

    # handlers
    def view(now: Comparison, box: Any = SAME, busy: bool = False, words: str = "") -> list[Any]:
        """Every output, from the comparison alone."""
        count = max(2, len(now.variants))
        places = range(len(chat_view.LETTERS))
        panes = [gr.Column(visible=place < count) for place in places]
        chats = [chat_view.side(now, place) for place in places]
        titles = [chat_view.heading(now, place) for place in places]
        open_vote = comparison.votable(now) and not busy
        votes = [gr.Button(visible=open_vote and not (place < 4 and place >= count)) for place in range(len(CHOICES))]
        return [box, now, *panes, *chats, *titles, *votes, gr.Button(visible=now.hidden and not busy), words]

    @shown
    def ask(prompt: str | None, now: Comparison, request: gr.Request, *rest: Any) -> Iterator[list[Any]]:
        picked, (hide, speed, system_text), values = rest[:4], rest[4:7], rest[7:]
        prompt, chosen = prompt or "", [name for name in picked if name and name != NONE]
        settings = guard.bounded(lab.settings, request, forms.parse(Sampling, values))
        visitor = guard.visitor(lab.settings, request)
        with running.turn(request) as turn:
            clean([Message(role="user", content=prompt)])
            if not now.variants:
                now = comparison.opened(chosen, hide, now.votes)
            elif note := comparison.ignored(now, chosen, hide):
                guard.info(note)
            now = comparison.asked(now, prompt, system_text or "", settings)
            guard.require_short(lab.settings, request, comparison.texts(now))
            cleared: Any = ""  # once: what is typed meanwhile is the next prompt
            for group in comparison.groups(speed, len(now.variants)):
                for place in group:
                    turn.add(comparison.start(lab, now, place, turn.stopped, visitor))
                for _ in watch(turn.replies):
                    if turn.dropped:
                        yield [SAME] * len(outs)  # or the page would get the last state once more
                        return
                    yield view(comparison.arriving(now, turn.replies), cleared, busy=True)
                    cleared = SAME
            yield view(comparison.arriving(now, turn.replies))

    def cast(choice: int | Literal["tie", "all bad"], now: Comparison, request: gr.Request) -> list[Any]:
        hidden = now.hidden
        now, judgement = comparison.voted(now, choice)
        if guard.may_change(lab.settings, request):
            lab.keep(judgement)
        return [*view(now, words=chat_view.vote_status(judgement, hidden)), standing(now.votes, request)]

    def standing(votes: tuple[Vote, ...], request: gr.Request) -> list[list[Any]]:
        """The lab's votes for its owner; a visitor's own otherwise, because those are kept nowhere."""
        return chat_view.wins(lab.wins() if guard.may_change(lab.settings, request) else wins(votes))

    @shown
    def show_names(now: Comparison) -> list[Any]:
        return view(comparison.revealed(now), words=f"{chat_view.names(now.variants)} A vote now is not blind.")

    @shown
    def clear(now: Comparison, request: gr.Request) -> list[Any]:
        running.drop(request)
        return view(Comparison(votes=now.votes))

    @shown
    def refresh(now: Comparison, request: gr.Request, *picked: str) -> list[Any]:
        lists = [_options(lab.entries(), place) for place in range(4)]
        kept = [
            name if name in dict(options).values() else _default(options, place)
            for place, (name, options) in enumerate(zip(picked, lists, strict=True))
        ]
        drops = [gr.Dropdown(options, value=name) for options, name in zip(lists, kept, strict=True)]
        owner = guard.may_change(lab.settings, request)
        return [*drops, standing(now.votes, request), chat_view.agreement(with_you(lab.judgements()) if owner else {})]

    @shown
    def write(now: Comparison, request: gr.Request) -> list[str]:
        """For TRL. The lab's votes for its owner; a visitor's own otherwise."""
        votes = lab.judgements() if guard.may_change(lab.settings, request) else list(now.votes)
        return [vote_pairs(vote for vote in votes if vote.judge == YOU), "votes.jsonl"]

    # bindings
    outs = [text, match, *columns, *chatbots, *heads, *buttons, reveal, status]
    inputs = [text, match, *pickers, blind, pace, system, *sampling]
    many: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on([text.submit, send.click], ask, inputs, outs, api_name="compare", **many)
    stop.click(running.stop, None, None, api_name="compare_stop", queue=False)
    others = [text.submit, send.click, new.click, reveal.click, *(button.click for button in buttons)]
    gr.on(others, lambda: "", None, said, api_visibility="private", show_progress="hidden", queue=False)
    new.click(clear, match, outs, api_name="compare_new", queue=False)
    for pane in chatbots:
        pane.clear(clear, match, outs, api_visibility="private", queue=False)
    reveal.click(show_names, match, outs, api_name="compare_reveal")
    for button, (label, choice) in zip(buttons, CHOICES, strict=True):
        name = "vote_" + label.lower().replace(" ", "_")
        button.click(shown(_fixed(cast, choice)), match, [*outs, table], api_name=name, trigger_mode="once")
    tab.select(
        refresh, [match, *pickers], [*pickers, table, agreed], api_name="compare_refresh", show_progress="hidden"
    )
    download_button(save, write, [match], saved, "save_votes")


def _fixed(cast: Any, choice: int | Literal["tie", "all bad"]) -> Any:
    """A handler for one button."""

    def handler(now: Comparison, request: gr.Request) -> list[Any]:
        return list(cast(choice, now, request))

    return handler


def _options(entries: list[Entry], place: int) -> list[tuple[str, str]]:
    """What may be chosen for a column; the third and the fourth may stay empty."""
    ready = chat_view.options(entries)
    return ready if place < 2 else [("none", NONE), *ready]


def _default(options: list[tuple[str, str]], place: int) -> str:
    return options[min(place, len(options) - 1) if place < 2 else 0][1]
