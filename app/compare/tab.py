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
    pace_choices = list(get_args(Pace))

    # components
    choices = _choices(lab.entries())
    with gr.Tab("Compare", id="compare") as tab:
        state_box = gr.State(Comparison(), time_to_live=guard.state_seconds(lab.settings))
        with gr.Row():
            pickers = [
                gr.Dropdown(listed, value=_default(listed, place), label=f"Variant {letter}", min_width=160)
                for place, (letter, listed) in enumerate(zip(LETTERS, choices, strict=True))
            ]
        with gr.Row():
            blind = gr.Checkbox(False, label="Blind", info="Hide the names and shuffle the order until you have voted.")
            pace = gr.Radio(pace_choices, value=pace_choices[0], label="Pace")
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
        judgement = judge_panel(lab, state_box, tab)
        table = gr.Dataframe(
            compare_view.wins([]), headers=compare_view.WINS, label="Your votes so far", interactive=False
        )
        gr.Markdown("A few votes prove nothing: of two equal models, one also wins by chance.")
        agreement = gr.Markdown()
        save = gr.Button("Save your votes as preference pairs", size="sm")
        saved = hidden_boxes("Saved votes")

    # handlers
    def view(
        state: Comparison, box: Any = SAME, busy: bool = False, words: str = "", finished: Any = None
    ) -> list[Any]:
        """The values of all outputs. `finished`: the rendered turns of each column."""
        count = max(2, len(state.variants))
        places = range(len(LETTERS))
        panes = [gr.Column(visible=place < count) for place in places]
        done = finished or [[] for _ in places]
        chats = [[*done[place], *compare_view.column(state, place, len(done[place]))] for place in places]
        titles = [compare_view.heading(state, place) for place in places]
        open_vote = comparison.can_vote(state) and not busy
        votes = [gr.Button(visible=open_vote and not (place < 4 and place >= count)) for place in range(len(CHOICES))]
        return [box, state, *panes, *chats, *titles, *votes, gr.Button(visible=state.hidden and not busy), words]

    @shown
    def ask(
        request: gr.Request,
        prompt: str | None,
        state: Comparison,
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
            if not state.variants:
                state = comparison.new_comparison(chosen, blind, state.votes)
            elif note := comparison.ignored_choice(state, chosen, blind):
                guard.info(note)
            state = comparison.with_prompt(state, prompt, system_prompt or "", settings)
            guard.require_short(lab.settings, request, comparison.texts(state))
            finished = [chat(turns, state.hidden) for turns in state.turns] + [[]] * (len(LETTERS) - len(state.turns))
            cleared: Any = ""  # once: text that is typed meanwhile is the next prompt
            for group in comparison.groups(pace, len(state.variants)):
                for place in group:
                    turn.add(comparison.start(lab, state, place, turn.stopped, visitor))
                for _ in watch(turn.replies, running.interval):
                    if turn.dropped:
                        yield [SAME] * len(outputs)  # otherwise Gradio sends the last values again
                        return
                    yield view(comparison.with_answers(state, turn.replies), cleared, busy=True, finished=finished)
                    cleared = SAME
            yield view(comparison.with_answers(state, turn.replies))

    def cast(choice: int | Literal["tie", "all bad"], state: Comparison, request: gr.Request) -> list[Any]:
        hidden = state.hidden
        state, vote = comparison.with_vote(state, choice)
        if guard.may_change(lab.settings, request):
            lab.save_vote(vote)
        return [*view(state, words=compare_view.vote_status(vote, hidden)), win_table(state.votes, request)]

    def win_table(votes: tuple[Vote, ...], request: gr.Request) -> list[list[Any]]:
        """Counts of all stored votes for the owner, and of a visitor's own votes, which are not stored."""
        return compare_view.wins(lab.wins() if guard.may_change(lab.settings, request) else wins(votes))

    @shown
    def show_names(state: Comparison) -> list[Any]:
        return view(comparison.revealed(state), words=f"{compare_view.names(state.variants)} A vote now is not blind.")

    @shown
    def clear(state: Comparison, request: gr.Request) -> list[Any]:
        running.drop(request)
        return view(Comparison(votes=state.votes))

    @shown
    def refresh(request: gr.Request, state: Comparison, **variants: str) -> list[Any]:
        lists = _choices(lab.entries())
        chosen = [
            name if name in dict(listed).values() else _default(listed, place)
            for place, (name, listed) in enumerate(zip(variants.values(), lists, strict=True))
        ]
        drops = [gr.Dropdown(listed, value=name) for listed, name in zip(lists, chosen, strict=True)]
        owner = guard.may_change(lab.settings, request)
        return [
            *drops,
            win_table(state.votes, request),
            compare_view.agreement(agreement_with_you(lab.votes()) if owner else {}),
        ]

    @shown
    def write(state: Comparison, request: gr.Request) -> list[str]:
        """Preference pairs for TRL: the stored votes for the owner, a visitor's own votes for a visitor."""
        votes = lab.votes() if guard.may_change(lab.settings, request) else list(state.votes)
        return [vote_pairs(vote for vote in votes if vote.judge == YOU), "votes.jsonl"]

    # bindings
    outputs = [text, state_box, *columns, *chatbots, *heads, *buttons, reveal, status]
    variants = dict(zip(variant_names, pickers, strict=True))
    controls = {
        "prompt": text,
        "state": state_box,
        **variants,
        "blind": blind,
        "pace": pace,
        "system_prompt": system,
        **sampling,
    }
    streaming: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "once", "show_progress": "hidden"}
    gr.on([text.submit, send.click], ask, None, outputs, inputs_kwargs=controls, api_name="compare", **streaming)
    stop.click(running.stop, None, None, api_name="compare_stop", queue=False)
    clearing = [text.submit, send.click, new.click, reveal.click, *(button.click for button in buttons)]
    gr.on(clearing, lambda: "", None, judgement, api_visibility="private", show_progress="hidden", queue=False)
    new.click(clear, state_box, outputs, api_name="compare_new", queue=False)
    for pane in chatbots:
        pane.clear(clear, state_box, outputs, api_visibility="private", queue=False)
    reveal.click(show_names, state_box, outputs, api_name="compare_reveal")
    for button, (label, choice) in zip(buttons, CHOICES, strict=True):
        name = "vote_" + label.lower().replace(" ", "_")
        button.click(shown(_fixed(cast, choice)), state_box, [*outputs, table], api_name=name, trigger_mode="once")
    tab.select(
        refresh, None, [*pickers, table, agreement], inputs_kwargs={"state": state_box, **variants},
        api_name="compare_refresh", show_progress="hidden",
    )  # fmt: skip
    download_button(save, write, [state_box], saved, "save_votes")


def _fixed(cast: Any, choice: int | Literal["tie", "all bad"]) -> Any:
    """The handler of one vote button."""

    def handler(state: Comparison, request: gr.Request) -> list[Any]:
        return list(cast(choice, state, request))

    return handler


def _choices(entries: list[Entry]) -> list[list[tuple[str, str]]]:
    """The choices of each column. The third and the fourth may be empty."""
    ready = options(entries)
    return [ready, ready, [("none", NONE), *ready], [("none", NONE), *ready]]


def _default(listed: list[tuple[str, str]], place: int) -> str:
    return listed[min(place, len(listed) - 1) if place < 2 else 0][1]
