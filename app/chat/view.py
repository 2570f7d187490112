"""The texts of the Chat tab: conversations, statistics, lists of variants. No gradio."""

from collections.abc import Sequence

from app import markup
from app.markup import plain
from backend.core.units import amount
from backend.inference.conversation import ENDS, STOPPED, Turn
from backend.inference.sampling import Generation
from models.catalogue import Entry


def typed(edited: str, before: str) -> str:
    """The text of an edited message. A page without scripts returns the HTML of the old text, which is `before`."""
    return before if edited == _user_bubble(before) else edited


def chat(turns: Sequence[Turn], blind: bool = False) -> list[dict[str, str]]:
    """Turns as messages of gr.Chatbot. `blind` leaves out everything that identifies a variant."""
    return [{"role": turn.role, "content": _bubble(turn, blind)} for turn in turns]


def _user_bubble(text: str) -> str:
    return markup.bubble(text, markup.text_html(text))


def _bubble(turn: Turn, blind: bool) -> str:
    """The notes come after the HTML of the answer, so that no markup in the answer can hide them."""
    if turn.role == "user":
        return _user_bubble(turn.content)
    notes = []
    if turn.state in ("loading", "waiting") and not turn.content:
        notes.append(("waiting", waiting(turn)))
    if turn.error:
        hidden = blind and turn.error != STOPPED
        error = "This answer failed. The reason is shown with the names." if hidden else turn.error
        notes.append(("failed", f"⚠ {error}"))
    if turn.generation:
        notes += [("cut", f"⚠ {warning}") for warning in warnings(turn.generation, blind)]
        notes += [] if blind else [("facts", f"{turn.variant} · {statistics(turn.generation)}")]
    if not turn.content and not notes:
        notes.append(("waiting", "…"))
    shown = markup.answer_html(turn.content) if turn.content else ""
    return markup.bubble(turn.content, shown, notes)


def waiting(turn: Turn) -> str:
    if turn.state == "loading":
        return "Loading the model…"
    return "You are next in the queue…" if turn.place == 0 else f"Waiting in the queue, {turn.place} before you…"


def warnings(generation: Generation, blind: bool) -> list[str]:
    """Warnings about an answer that is incomplete or ignored messages."""
    notes = []
    if generation.end == "length":
        notes.append(
            f"CUT at the token limit ({generation.tokens} tokens). This answer is not complete: "
            "raise “Max tokens” and retry."
        )
    if generation.end == "context":
        size = "" if blind else f" ({generation.context_size:,} tokens)"
        notes.append(f"CUT because the context is full{size}. This answer is not complete: start a new conversation.")
    if generation.left_out:
        notes.append(
            f"The {generation.left_out} oldest messages did not fit into the context and were left out: the model did "
            "not see them."
        )
    return notes


def statistics(generation: Generation) -> str:
    wait = f" ({generation.waited:.2f} s of it in the queue)" if generation.waited >= 0.05 else ""
    speed = f"{generation.tokens_per_second:.1f} tokens/s" if generation.tokens_per_second else "too short for a speed"
    template = "" if generation.template == "own" else f" · template: {generation.template}"
    reused = f", {generation.reused_tokens} still cached" if generation.reused_tokens else ""
    return (
        f"first token after {generation.first_token:.2f} s{wait} · {generation.tokens} tokens · {speed} · "
        f"{ENDS[generation.end]} · prompt {generation.prompt_tokens} tokens{reused} · seed {generation.seed}{template}"
    )


def context(turns: Sequence[Turn]) -> str:
    """How much of the context is used after the last answer."""
    last = next((turn.generation for turn in reversed(turns) if turn.generation), None)
    if last is None:
        return "Context: empty."
    share = last.context_used / last.context_size
    bar = "█" * round(share * 20) + "░" * (20 - round(share * 20))
    full = " When it is full, the oldest turns are left out, with a note." if share > 0.5 else ""
    return f"Context: `{bar}` {last.context_used:,} of {last.context_size:,} tokens ({share:.0%}).{full}"


def mismatched(entry: Entry) -> bool:
    """Whether it was trained with another chat template than the one in its file."""
    return entry.variant.template != "own"


def variant_note(entry: Entry) -> str:
    """Facts about a variant, and a warning if its chat template is not the one it was trained with."""
    variant = entry.variant
    facts = " · ".join(filter(None, [plain(variant.about), plain(variant.quantisation), amount(variant.size)]))
    if not mismatched(entry):
        return facts
    return (
        f"{facts}\n\n**Trained with the {plain(variant.template)} template, but its file has another.** The app uses "
        "the template of the training. Switch below to see the effect of the other: the lab report served its models "
        "with a template that they were not trained with, without noticing."
    )


def option(entry: Entry) -> str:
    """The label of a variant in a list."""
    note = f" · {entry.variant.template} template" if mismatched(entry) else ""
    return entry.variant.id + note


def options(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Label and id of the variants that can run."""
    return [(option(entry), entry.variant.id) for entry in entries if entry.runs]


def missing(entries: Sequence[Entry]) -> str:
    """A sentence about the variants that cannot run."""
    names = [f"{entry.variant.id} ({entry.state})" for entry in entries if not entry.runs]
    return f"Not ready: {plain(', '.join(names))}. The Library tab says what to do." if names else ""
