"""What is chosen on the page, made an evaluation: or a sentence that says what is missing, before anything begins."""

from pathlib import Path
from typing import Any

import pytest
from conftest import GENERATION

from app.compare import comparison
from app.compare.comparison import Comparison
from app.judge import form_choices
from app.judge.form_choices import ANSWERS, ENDPOINT, EXACT, FILE, IMPORTED_SCORES, LAB, OVERLAP, VARIANT, FormChoices
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.inference.conversation import Turn
from backend.lab import Lab

BOTH = ("tiny_base", "tiny_lora")


def chosen(**more: Any) -> FormChoices:
    return FormChoices(**({"variants": BOTH} | more))


def with_settings(settings: Settings, **more: Any) -> Lab:
    return Lab(settings.model_copy(update=more))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"variants": ()}, "No variant is chosen"),
        ({"variants": ("tiny_base", "nobody")}, "no variant named 'nobody'"),
        ({"variants": ("tiny_base", "base_1b")}, "base_1b cannot run: it is not downloaded"),
        ({"source": FILE}, "No file is uploaded yet"),
        ({"source": ANSWERS}, "No file of answers is uploaded yet"),
        ({"source": "run:../../etc"}, "no longer exists"),
        ({"judge": "nobody"}, "No judge is chosen"),
        ({"judge": IMPORTED_SCORES}, "No judge is chosen"),
        ({"judge": VARIANT + "base_3b"}, "base_3b cannot run"),
        ({"judge": VARIANT + "tiny_base", "rubric": "poetry"}, "no rubric 'poetry'"),
        ({"judge": ENDPOINT}, "need a key and none is set"),
        ({"baseline": "echo"}, "not among the variants"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(lab: Lab, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(LabError, match=says):
        form_choices.evaluate_request(lab, chosen(**wrong))
    assert not lab.settings.lab_runs.exists()


def test_the_lab_s_twenty_rows_are_those_it_held_out(lab: Lab) -> None:
    spec = form_choices.evaluate_request(lab, chosen(source=LAB, rows=20))
    assert spec.data == DatasetSpec() and spec.part == "held"
    assert (spec.data.source, spec.data.held_first, spec.data.held_rows) == ("mlabonne/FineTome-100k", 1000, 20)


def test_the_lab_s_judge_is_what_it_used(settings: Settings) -> None:
    lab = with_settings(settings, openai_api_key=Settings(_env_file=None, openai_api_key="sk-abc\n").openai_api_key)
    spec = form_choices.evaluate_request(lab, chosen(judge=ENDPOINT))
    assert (spec.judge.model, spec.judge.address) == ("gpt-4o-mini", "https://api.openai.com/v1")
    assert spec.judge.rubric == "lab" and "sk-abc" not in spec.model_dump_json()
    cost = form_choices.cost_forecast(lab, chosen(judge=ENDPOINT))
    assert cost.dollars and 0 < cost.dollars[0] < cost.dollars[1] and cost.calls == 2 * 60 + 24 + 5


def test_without_a_known_price_nobody_is_asked(settings: Settings) -> None:
    key = Settings(_env_file=None, openai_api_key="sk-abc").openai_api_key
    lab = with_settings(settings, openai_api_key=key, judge_model="nobody-knows")
    with pytest.raises(LabError, match="No price is known"):
        form_choices.cost_forecast(lab, chosen(judge=ENDPOINT))


def test_rules_ask_nobody(lab: Lab) -> None:
    for rule in (OVERLAP, EXACT):
        found = form_choices.cost_forecast(lab, chosen(judge=rule))
        assert (found.calls, found.dollars) == (0, (0.0, 0.0))


def test_scores_that_came_along_need_no_judge(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("model,id,instruction,reference,candidate,score\na,1,q,r,x,0.5\nb,1,q,r,y,\n")
    spec = form_choices.evaluate_request(lab, chosen(source=ANSWERS, file=str(file), judge=IMPORTED_SCORES))
    assert (spec.judge.kind, spec.low, spec.high, spec.variants) == ("given", 0.0, 1.0, ("a", "b"))
    plain = tmp_path / "plain.csv"
    plain.write_text("model,id,instruction,reference,candidate\na,1,q,r,x\n")
    with pytest.raises(LabError, match="These answers have no scores"):
        form_choices.evaluate_request(lab, chosen(source=ANSWERS, file=str(plain), judge=IMPORTED_SCORES))


def said(content: str, variant: str) -> Turn:
    return Turn(role="assistant", content=content, variant=variant, generation=GENERATION, state="ended")


def on_screen(first: str, second: str, names: tuple[str, str] = BOTH) -> Comparison:
    opened = comparison.with_prompt(
        comparison.new_comparison(names, blind=False, votes=()), "q", "", FormChoices().sampling
    )
    turns = tuple(
        (*turns, said(text, name)) for turns, text, name in zip(opened.turns, (first, second), names, strict=True)
    )
    return Comparison(opened.variants, turns)


def test_what_stands_on_the_screen_is_one_row(lab: Lab) -> None:
    spec, _ = form_choices.judge_comparison(lab, on_screen("a", "b"), "r", OVERLAP, "lab", "score")
    assert spec.variants == BOTH and spec.given and not spec.check and spec.rejudged == 0


def test_the_same_variant_twice_is_told_apart(lab: Lab) -> None:
    now = on_screen("a", "b", ("tiny_base", "tiny_base"))
    assert form_choices.names_of(now) == ["tiny_base (A)", "tiny_base (B)"]
    assert [one.model for one in form_choices.answers_of(now, "").rows] == ["tiny_base (A)", "tiny_base (B)"]


def test_conversations_that_have_gone_apart_are_rows_of_their_own_and_have_no_winner(lab: Lab) -> None:
    now = on_screen("a", "b")
    turns = tuple((*turns, comparison.conversation.user_turn("and?"), said("c", "x")) for turns in now.turns)
    apart = Comparison(now.variants, turns)
    assert [one.id for one in form_choices.answers_of(apart, "").rows] == ["1", "B"]
    with pytest.raises(LabError, match="conversations differ"):
        form_choices.judge_comparison(lab, apart, "", VARIANT + "tiny_base", "lab", "winner")


def test_nothing_on_the_screen_is_nothing_to_judge(lab: Lab) -> None:
    with pytest.raises(LabError, match="no answers to judge yet"):
        form_choices.judge_comparison(lab, Comparison(), "", OVERLAP, "lab", "score")
    with pytest.raises(LabError, match="cannot pick a winner"):
        form_choices.judge_comparison(lab, on_screen("a", "b"), "r", EXACT, "lab", "winner")
