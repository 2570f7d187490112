"""The Compare tab: one prompt to two, three or four variants, side by side, and a vote."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import gradio as gr

from app import forms, guard, markup
from app.browser_download import download_button, hidden_boxes
from app.chat.view import chat, options
from app.compare import comparison
from app.compare import view as compare_view
from app.compare.comparison import LETTERS, Comparison, Pace
from app.compare.judge_panel import judge_panel
from app.streams import Streams
from backend.core.messages import Message, clean
from backend.inference.reply import watch
from backend.inference.sampling import Sampling
from backend.judge.votes import YOU, Vote, agreement_with_you, wins
from backend.lab import Lab
from backend.report.files import vote_pairs
from models.catalogue import Entry

NONE = "none"
SAME = gr.skip()  # leaves a control as it is
CHOICES: list[tuple[str, int | Literal["tie", "all bad"]]] = [
    *((f"{letter} is better", place) for place, letter in enumerate(LETTERS)),
    ("Tie", "tie"),
    ("All bad", "all bad"),
]


def compare_tab(lab: Lab) -> None:
    running = Streams(lab.settings)
    variant_names = [f"variant_{letter.lower()}" for letter in LETTERS]
    shown = guard.shown(lab.settings)
    paces = list(get_args(Pace))

    # components
    choices = _choices(lab.entries())
    with gr.Tab("Compare", id="compare") as tab:
        match = gr.State(Comparison(), time_to_live=guard.state_seconds(lab.settings))
        with gr.Row():
            pickers = [
                gr.Dropdown(listed, value=_default(listed, place), label=f"Variant {letter}", min_width=160)
                for place, (letter, listed) in enumerate(zip(LETTERS, choices, strict=True))
            ]
        with gr.Row():
            blind = gr.Checkbox(False, label="Blind", info="Names hidden, order shuffled, until you have voted.")
            pace = gr.Radio(paces, value=paces[0], label="Pace")
        columns, heads, chatbots = [], [], []
        with gr.Row():
            for place, letter in enumerate(LETTERS):
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
        with gr.Accordion("System prompt and generation settings", open=False):
            system = gr.Textbox(label="System prompt for all", lines=2, value="")
            sampling = forms.draw(Sampling, " (all)")
        said = judge_panel(lab, match, tab)
        table = gr.Dataframe(
            compare_view.wins([]), headers=compare_view.WINS, label="Your votes so far", interactive=False
        )
        gr.Markdown("A few votes are an impression, not a result: two equal models also win and lose by chance.")
        agreed = gr.Markdown()
        save = gr.Button("Save your votes as preference pairs", size="sm")
        saved = hidden_boxes("Saved votes")

    # handlers
    def view(now: Comparison, box: Any = SAME, busy: bool = False, words: str = "", finished: Any = None) -> list[Any]:
        """Every output. `finished`: the turns of each column that are rendered already."""
        count = max(2, len(now.variants))
        places = range(len(LETTERS))
        panes = [gr.Column(visible=place < count) for place in places]
        done = finished or [[] for _ in places]
        chats = [[*done[place], *compare_view.column(now, place, len(done[place]))] for place in places]
        titles = [compare_view.heading(now, place) for place in places]
        open_vote = comparison.votable(now) and not busy
        votes = [gr.Button(visible=open_vote and not (place < 4 and place >= count)) for place in range(len(CHOICES))]
        return [box, now, *panes, *chats, *titles, *votes, gr.Button(visible=now.hidden and not busy), words]

    @shown
    def ask(
        request: gr.Request,
        prompt: str | None,
        now: Comparison,
        blind: bool,
        pace: Pace,
        system_prompt: str | None,
        **controls: Any,
    ) -> Iterator[list[Any]]:
        prompt, variants = prompt or "", [controls[name] for name in variant_names]
        chosen = [name for name in variants if name and name != NONE]
        settings = guard.bounded(lab.settings, request, forms.parse(Sampling, controls))
        visitor = guard.visitor(lab.settings, request)
        with running.turn(request) as turn:
            clean([Message(role="user", content=prompt)])
            if not now.variants:
                now = comparison.opened(chosen, blind, now.votes)
            elif note := comparison.ignored(now, chosen, blind):
                guard.info(note)
            now = comparison.asked(now, prompt, system_prompt or "", settings)
            guard.require_short(lab.settings, request, comparison.texts(now))
            finished = [chat(turns, now.hidden) for turns in now.turns] + [[]] * (len(LETTERS) - len(now.turns))
            cleared: Any = ""  # once: text that is typed meanwhile is the next prompt
            for group in comparison.groups(pace, len(now.variants)):
                for place in group:
                    turn.add(comparison.start(lab, now, place, turn.stopped, visitor))
                for _ in watch(turn.replies):
                    if turn.dropped:
                        yield [SAME] * len(outs)  # or the page would get its last state once more
                        return
                    yield view(comparison.arriving(now, turn.replies), cleared, busy=True, finished=finished)
                    cleared = SAME
            yield view(comparison.arriving(now, turn.replies))

    def cast(choice: int | Literal["tie", "all bad"], now: Comparison, request: gr.Request) -> list[Any]:
        hidden = now.hidden
        now, judgement = comparison.voted(now, choice)
        if guard.may_change(lab.settings, request):
            lab.save_vote(judgement)
        return [*view(now, words=compare_view.vote_status(judgement, hidden)), win_table(now.votes, request)]

    def win_table(votes: tuple[Vote, ...], request: gr.Request) -> list[list[Any]]:
        """All stored votes for the owner; a visitor's own votes, which are not stored."""
        return compare_view.wins(lab.wins() if guard.may_change(lab.settings, request) else wins(votes))

    @shown
    def show_names(now: Comparison) -> list[Any]:
        return view(comparison.revealed(now), words=f"{compare_view.names(now.variants)} A vote now is not blind.")

    @shown
    def clear(now: Comparison, request: gr.Request) -> list[Any]:
        running.drop(request)
        return view(Comparison(votes=now.votes))

    @shown
    def refresh(request: gr.Request, now: Comparison, **variants: str) -> list[Any]:
        lists = _choices(lab.entries())
        chosen = [
            name if name in dict(listed).values() else _default(listed, place)
            for place, (name, listed) in enumerate(zip(variants.values(), lists, strict=True))
        ]
        drops = [gr.Dropdown(listed, value=name) for listed, name in zip(lists, chosen, strict=True)]
        owner = guard.may_change(lab.settings, request)
        return [
            *drops,
            win_table(now.votes, request),
            compare_view.agreement(agreement_with_you(lab.votes()) if owner else {}),
        ]

    @shown
    def write(now: Comparison, request: gr.Request) -> list[str]:
        """For TRL. The lab's votes for its owner; a visitor's own otherwise."""
        votes = lab.votes() if guard.may_change(lab.settings, request) else list(now.votes)
        return [vote_pairs(vote for vote in votes if vote.judge == YOU), "votes.jsonl"]

    # bindings
    outs = [text, match, *columns, *chatbots, *heads, *buttons, reveal, status]
    variants = dict(zip(variant_names, pickers, strict=True))
    controls = {
        "prompt": text,
        "now": match,
        **variants,
        "blind": blind,
        "pace": pace,
        "system_prompt": system,
        **sampling,
    }
    streaming: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on([text.submit, send.click], ask, None, outs, inputs_kwargs=controls, api_name="compare", **streaming)
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
        refresh, None, [*pickers, table, agreed], inputs_kwargs={"now": match, **variants},
        api_name="compare_refresh", show_progress="hidden",
    )  # fmt: skip
    download_button(save, write, [match], saved, "save_votes")


def _fixed(cast: Any, choice: int | Literal["tie", "all bad"]) -> Any:
    """A handler for one button."""

    def handler(now: Comparison, request: gr.Request) -> list[Any]:
        return list(cast(choice, now, request))

    return handler


def _choices(entries: list[Entry]) -> list[list[tuple[str, str]]]:
    """The variants that each column can have; the third and the fourth may stay empty."""
    ready = options(entries)
    return [ready, ready, [("none", NONE), *ready], [("none", NONE), *ready]]


def _default(listed: list[tuple[str, str]], place: int) -> str:
    return listed[min(place, len(listed) - 1) if place < 2 else 0][1]
