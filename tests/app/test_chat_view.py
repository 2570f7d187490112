"""Values to text: nothing that acts, nothing that gives a name away, no warning lost."""

from collections.abc import Sequence
from html import unescape

import pytest
from support.session import read

from app.chat import view as chat_view
from app.compare import view as compare_view
from app.compare.comparison import Comparison
from backend.inference.conversation import Turn
from backend.inference.sampling import Generation, Sampling
from backend.judge.votes import Candidate, Vote, WinRecord
from models.catalogue import Entry
from models.variant import Variant

GENERATION = Generation(
    prompt_tokens=12,
    reused_tokens=5,
    tokens=34,
    waited=0.5,
    first_token=0.75,
    seconds=2,
    tokens_per_second=27.25,
    end="stop",
    context_used=46,
    context_size=4096,
    seed=1234567,
    template="alpaca",
)


def said(content: str = "Hello", **facts: object) -> Turn:
    return Turn(role="assistant", content=content, variant="tiny_base").model_copy(update=facts)


def generated(**facts: object) -> Turn:
    return said(generation=GENERATION.model_copy(update=facts))


def message(turn: Turn, blind: bool = False) -> str:
    """Its HTML."""
    [found] = chat_view.chat([turn], blind)
    return found["content"]


def bubble(turn: Turn, blind: bool = False) -> str:
    """What a person reads in it."""
    return read(message(turn, blind))


def test_a_blind_failure_names_nobody() -> None:
    turn = said(content="", error="The process that runs tiny_base stopped.")
    assert "tiny_base" in bubble(turn) and "tiny_base" not in bubble(turn, blind=True)


def test_what_a_person_writes_is_as_powerless_as_what_a_model_writes() -> None:
    for turn in (Turn(role="user", content="<b>"), said("<b>"), said("```\n<b>")):
        assert "<b>" in bubble(turn) and "<b>" not in message(turn)


def test_an_error_is_as_powerless() -> None:
    turn = said("", error="it said <script>")
    assert "it said <script>" in bubble(turn) and "<script>" not in message(turn)


def test_a_warning_stands_outside_of_an_answer_that_was_cut_in_its_code() -> None:
    cut = GENERATION.model_copy(update={"end": "length"})
    found = message(said("```python\nwhile True:", generation=cut))
    assert found.index("</pre>") < found.index('<p class="note cut">⚠ CUT at the token limit')


@pytest.mark.parametrize("blind", [False, True])
def test_an_answer_cut_at_the_limit_says_so(blind: bool) -> None:
    assert "CUT at the token limit (34 tokens)" in bubble(generated(end="length"), blind)


@pytest.mark.parametrize("blind", [False, True])
def test_an_answer_cut_by_the_context_says_so(blind: bool) -> None:
    shown = bubble(generated(end="context"), blind)
    assert "CUT because the context is full" in shown
    assert ("4,096" in shown) != blind  # the size of a context gives a variant away


@pytest.mark.parametrize("blind", [False, True])
def test_messages_left_out_are_counted(blind: bool) -> None:
    assert "The 6 oldest messages did not fit" in bubble(generated(left_out=6), blind)


@pytest.mark.parametrize("end", ["stop", "stopped"])
def test_a_whole_answer_has_no_warning(end: str) -> None:
    assert "⚠" not in bubble(generated(end=end))


def test_statistics_say_speed_tokens_and_how_to_repeat_it() -> None:
    shown = bubble(generated())
    for part in ("tiny_base", "0.75 s", "0.50 s of it in the queue", "34 tokens", "27.2 tokens/s", "1234567", "alpaca"):
        assert part in shown


def test_a_blind_answer_shows_its_text_and_nothing_that_gives_it_away() -> None:
    assert bubble(generated(), blind=True) == "Hello"


def test_an_answer_too_short_for_a_speed_claims_none() -> None:
    assert "too short for a speed" in bubble(generated(tokens_per_second=0, tokens=1))


def test_a_failed_answer_keeps_what_had_arrived() -> None:
    assert bubble(said("Half a", error="It stopped.")) == "Half a\n⚠ It stopped."


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "loading"}, "Loading the model…"),
        ({"state": "waiting", "place": 0}, "You are next in the queue…"),
        ({"state": "waiting", "place": 3}, "Waiting in the queue, 3 before you…"),
        ({"state": "answering"}, "…"),
    ],
)
def test_an_answer_without_words_says_what_it_waits_for(facts: dict[str, object], words: str) -> None:
    assert bubble(said("", **facts)) == words


@pytest.mark.parametrize(("used", "blocks"), [(0, 0), (2048, 10), (4096, 20)])
def test_the_context_bar_is_as_full_as_the_context(used: int, blocks: int) -> None:
    shown = chat_view.context([generated(context_used=used), Turn(role="user", content="next")])
    assert (shown.count("█"), shown.count("░")) == (blocks, 20 - blocks)


def test_the_context_is_empty_before_the_first_answer() -> None:
    assert chat_view.context([Turn(role="user", content="Hello")]) == "Context: empty."


def entries() -> Sequence[Entry]:
    return [
        Entry(Variant(id="away"), "not downloaded", "hf download it"),
        Entry(Variant(id="tuned", template="alpaca", about="<b>", size=1000), "ready"),
        Entry(Variant(id="plain", about="here", over="tuned"), "embedded"),
    ]


def test_a_variant_spoken_to_otherwise_than_its_file_says_is_marked() -> None:
    _, tuned, plain = entries()
    assert "alpaca template" in chat_view.option(
        tuned
    ) and "Trained with the alpaca template" in chat_view.variant_note(tuned)
    assert chat_view.option(plain) == "plain" and "<b>" not in chat_view.variant_note(tuned)


def test_what_cannot_run_is_named_with_its_state() -> None:
    assert "away (not downloaded)." in unescape(chat_view.missing(entries()))
    assert chat_view.missing(entries()[1:]) == ""


def test_a_row_of_wins_stands_under_its_headings() -> None:
    row = compare_view.wins([WinRecord(variant="a", won=1, lost=2, tied=3, bad=4)])[0]
    assert dict(zip(compare_view.WINS, row, strict=True)) == {
        "variant": "a",
        "won": 1,
        "lost": 2,
        "tied": 3,
        "all bad": 4,
        "votes": 10,
    }


def test_a_hidden_column_shows_neither_name_nor_statistics() -> None:
    now = Comparison(("tiny_base", "tiny_lora"), ((generated(),), (generated(),)), hidden=True)
    shown = (
        str([compare_view.column(now, place) for place in (0, 1)])
        + compare_view.heading(now, 0)
        + compare_view.heading(now, 1)
    )
    assert "tiny" not in shown and "tokens/s" not in shown and "alpaca" not in shown


def test_a_revealed_column_shows_its_name() -> None:
    now = Comparison(("tiny_base", "tiny_lora"), ((generated(),), (generated(),)))
    assert (
        unescape(compare_view.heading(now, 1)) == "**B** · tiny_lora"
        and "tokens/s" in compare_view.column(now, 1)[0]["content"]
    )


def test_a_column_that_nobody_stands_in_is_empty() -> None:
    assert compare_view.column(Comparison(), 3) == [] and compare_view.heading(Comparison(), 3) == "**D**"


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ({"verdict": "winner", "winner": 1}, "B is better"),
        ({"verdict": "tie"}, "tie"),
        ({"verdict": "all bad"}, "bad"),
    ],
)
def test_a_vote_says_what_it_was_and_names_them_if_they_were_hidden(verdict: dict[str, object], words: str) -> None:
    two = [Candidate(variant=name, messages=[]) for name in ("tiny_base", "tiny_lora")]
    vote = Vote.model_validate({"blind": True, "candidates": two, "sampling": Sampling(), **verdict})
    hidden, told = unescape(compare_view.vote_status(vote, False)), unescape(compare_view.vote_status(vote, True))
    assert words in hidden and "tiny_lora" not in hidden
    assert "A is **tiny_base**, B is **tiny_lora**" in told


def test_an_edit_means_what_was_typed() -> None:
    old = "use <b>x</b>\n\tand ![a](b) &lt;"
    assert chat_view.typed(message(Turn(role="user", content=old)), old) == old
    for new in (old, "use &lt;i> &#33;[a](b)", "  a\n", '<div class="said" data-text="x">x</div>'):
        assert chat_view.typed(new, old) == new
