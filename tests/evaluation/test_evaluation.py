"""Evaluations as the lab starts them: real workers, the toy's variants, and the double as the judge."""

import json
from pathlib import Path

import pytest
from servers.judge import JudgeServer, graded
from support.evaluations import (
    BARE,
    TOY,
    answer_in,
    asked_about,
    brought,
    by,
    done,
    ended,
    evaluated,
    judge,
    lab,
    points,
    saved,
    scores,
    text_of,
)
from support.judges import KEY
from support.trainings import chat

from app.judge import form_choices
from app.judge.form_choices import ANSWERS, IMPORTED_SCORES, FormChoices
from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.evaluation import records
from backend.evaluation.request import JudgeRequest
from backend.inference.sampling import Sampling
from backend.judge import check
from backend.lab import Lab

__all__ = ["lab", "judge"]  # the fixtures
PAIR = ("tiny_base", "tiny_lora")
TEXTS = {"one": ["right 0", "wrong 1", "right 2"], "two": ["right 0", "right 1", "wrong 2"]}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_rule_judges_what_the_toy_answers_to_held_out_rows(lab: Lab) -> None:
    run = evaluated(lab, lab.evaluations.request(PAIR, JudgeRequest(), TOY))
    found = done(lab, run)
    assert len(found.questions) == 4 and set(found.answers) == {(q.id, name) for q in found.questions for name in PAIR}
    assert found.table.contrasts == (("tiny_lora", "tiny_base"),)
    assert found.table.baselines == {"tiny_lora": "tiny_base"}
    base, lora = found.verdict.variants
    assert base.primary.mean is not None and lora.primary.mean is not None and lora.primary.mean > base.primary.mean
    assert base.reached == lora.reached == 4 and not base.failures
    assert set(found.variants) == set(PAIR) and found.identity.kind == "rule"
    assert found.leaked == 0 and found.cost == 0 and found.check is None and found.steadiness is None
    standing = lab.evaluations.status(run.id)
    assert (standing.state, standing.failed, standing.resumable) == ("done", 0, False)
    with pytest.raises(LabError, match="cannot be resumed"):
        lab.evaluations.resume(run.id)


def test_a_leak_is_marked_and_a_cut_answer_carries_its_mark_to_the_table(lab: Lab, tmp_path: Path) -> None:
    rows = [chat("What colour is snow?", "White."), chat("Name an animal.", "A dog.")]
    rows += [chat("what  COLOUR is snow?", "It is white."), chat("What is the capital of France?", "Paris.")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DatasetSpec(source=str(path), rows=2, held_first=2, held_rows=2)
    sampling = Sampling(temperature=0, seed=1, max_tokens=3)
    found = done(lab, evaluated(lab, lab.evaluations.request(["tiny_base"], JudgeRequest(), data, sampling=sampling)))
    assert [one.leaked for one in found.questions] == [True, False] and found.leaked == 1
    assert all(one.end == "length" and one.tokens == 3 for one in found.answers.values())
    assert [cell.cut for cell in found.table.cells.values()] == [True, True]
    (base,) = found.verdict.variants
    assert base.cut == 2 and base.uncut.n == 0 and base.primary.n == 2


def test_no_rows_is_a_sentence(lab: Lab, tmp_path: Path) -> None:
    data = TOY.model_copy(update={"held_rows": 0})
    run = evaluated(lab, lab.evaluations.request(["tiny_base"], JudgeRequest(), data))
    assert run.state == "failed" and "None of these rows has an answer to compare with" in run.why
    with pytest.raises(LabError, match="not both"):
        lab.evaluations.request(["tiny_base"], JudgeRequest())
    with pytest.raises(LabError, match="No variant is chosen"):
        lab.evaluations.request([], JudgeRequest(), TOY)
    with pytest.raises(LabError, match="not among the variants"):
        lab.evaluations.request(["tiny_base"], JudgeRequest(), TOY, baseline="tiny_lora")


def test_a_variant_that_is_not_here_cannot_answer(lab: Lab) -> None:
    run = evaluated(lab, lab.evaluations.request(["tiny_base", "base_1b"], JudgeRequest(), TOY))
    assert run.state == "failed" and "base_1b cannot answer: it is not downloaded" in run.why


def test_a_judge_behind_an_address_is_checked_once_and_told_no_names(lab: Lab, judge: JudgeServer) -> None:
    run = evaluated(lab, lab.evaluations.request(PAIR, by(judge), TOY))
    found = done(lab, run)
    assert len(found.table.cells) == 8 and all(cell.status == "ok" for cell in found.table.cells.values())
    assert found.check is not None and len(found.check.tried) == 24 and not found.check.reliable
    assert found.by is not None and found.by.agreed is not None
    assert found.identity.parameters["response_format"] == "json_schema" and found.identity.returned == "judge-1"
    assert "logprobs" in found.by.agreed.refused
    items = {one.text for one in found.answers.values()}
    assert found.steadiness == (5, 0.0)
    probes = len({one.item.key("", one.repeat) for one in check.probe_tasks() if one.item.answer.strip()})
    assert judge.calls == 1 + probes + len(items) + 5
    sent = json.dumps(judge.bodies)
    assert not any(name in sent for name in PAIR) and KEY not in sent
    assert {headers["authorization"] for headers in judge.headers} == {f"Bearer {KEY}"}
    assert not any(KEY.encode() in path.read_bytes() for path in files_below(lab.settings.lab_runs))

    before = judge.calls
    again = evaluated(lab, brought(lab, by(judge), TEXTS, check=True))
    assert done(lab, again).check == found.check
    assert judge.calls == before + 1 + 5  # the trial question, and answers; no probe
    for path in (lab.settings.lab_runs / "checks").iterdir():
        path.write_text("{")
    third = evaluated(lab, brought(lab, by(judge), TEXTS, check=True))
    assert (remade := done(lab, third).check) is not None and len(remade.tried) == 24
    assert judge.calls == before + 6 + 6 + probes


def test_answers_that_are_the_same_are_judged_once_and_get_the_same(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = points(right=5, wrong=1)
    columns = {"one": ["right", "wrong", "", "right"], "two": ["right", "right", " \u200b", "right"]}
    found = done(lab, evaluated(lab, brought(lab, by(judge), columns, rejudged=9)))
    asked = asked_about(judge)
    assert asked == {"right": 2 * 3, "wrong": 2 * 1}  # three rows, and once more each; empty ones are never sent
    got = {key: cell.values["correctness"] for key, cell in found.table.cells.items()}
    assert [got[f"row-{n}", "one"] for n in range(4)] == [5, 1, 1, 5]
    assert [got[f"row-{n}", "two"] for n in range(4)] == [5, 5, 1, 5]
    assert found.scores["row-0", "one"] == found.scores["row-0", "two"]
    assert found.scores["row-2", "one"].by_rule and found.scores["row-2", "one"].flags == ("empty",)
    assert found.steadiness == (4, 0.0)


def test_a_judge_asked_twice_gives_a_mean(lab: Lab, judge: JudgeServer) -> None:
    grades = iter([2, 4] * 3)
    judge.rule = lambda body: graded(text_of(next(grades) if answer_in(body) != "Yellow." else 3))
    columns = {"one": ["a", "b"], "two": ["c", None]}
    found = done(lab, evaluated(lab, brought(lab, by(judge, repeats=2), columns)))
    assert asked_about(judge) == {"a": 2, "b": 2, "c": 2}
    assert [cell.values["completeness"] for cell in found.table.cells.values()] == [3, 3, 3]


def test_a_failure_is_named_and_no_number_and_is_tried_again(lab: Lab, judge: JudgeServer) -> None:
    good = points(right=5, wrong=1)
    judge.rule = lambda body: graded("Well, well.") if "wrong 1" in json.dumps(body) else good(body)
    columns = TEXTS | {"three": ["right 6", "right 7", "right 8"]}
    run = evaluated(lab, brought(lab, by(judge), columns))
    found = done(lab, run)
    cell = found.table.cells["row-1", "one"]
    assert (cell.status, dict(cell.values)) == ("bad_json", {})
    assert (
        "no valid verdict" in found.scores["row-1", "one"].why and found.scores["row-1", "one"].reply == "Well, well."
    )
    one = found.verdict.variants[0]
    assert one.failures == {"bad_json": 1} and one.primary.n == 2 and one.primary.mean == 5
    assert found.verdict.contrasts[0].difference.n == 2
    standing = lab.evaluations.status(run.id)
    assert (standing.failed, standing.resumable) == (1, True)

    calls, judge.rule = judge.calls, good
    found = done(lab, ended(lab.evaluations.resume(run.id)))
    assert found.table.cells["row-1", "one"].values["correctness"] == 1
    assert judge.calls == calls + 1
    assert [one.status for one in records.scores(run.folder)[found.scores["row-1", "one"].key]] == ["bad_json", "ok"]
    assert not lab.evaluations.status(run.id).resumable


def test_a_judge_that_becomes_another_in_the_middle_does_not_count(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: graded(model="judge-2" if "wrong" in answer_in(body) else "judge-1")
    found = done(lab, evaluated(lab, brought(lab, by(judge), TEXTS)))
    assert [cell.status for cell in found.table.cells.values()].count("other_model") == 2
    assert "judge-2 answered, but this run's judge is judge-1" in found.scores["row-1", "one"].why


def test_two_who_start_the_same_get_one_run(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = lambda body: graded()
    spec = brought(lab, by(judge), TEXTS)
    with Lab(lab.settings) as other:
        first, second = lab.evaluations.start(spec), other.evaluations.start(spec)
    assert first == second
    done(lab, ended(first))
    assert asked_about(judge).total() == 5 and len(lab.evaluations.statuses()) == 1


def test_models_may_have_rows_of_their_own(lab: Lab, judge: JudgeServer) -> None:
    judge.rule = points(right=5, wrong=2)
    columns = {"one": ["right", "right", None], "two": ["wrong", None, "wrong"], "three": [None, None, None]}
    answers = saved(lab, columns)
    found = done(lab, evaluated(lab, lab.evaluations.request(tuple(columns), by(judge), answers=answers, **BARE)))
    assert set(found.table.cells) == {(one.id, one.model) for one in answers.rows}
    contrast = found.verdict.contrasts[0]
    assert (contrast.variant, contrast.against) == ("two", "one")
    assert contrast.difference.n == 1 and contrast.difference.mean == -3 and contrast.decided == "too few rows"
    assert any("Not all were judged on the same rows" in note for note in found.verdict.notes)
    assert found.verdict.variants[2].reached == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_or_two_decide_nothing(rows: int, lab: Lab) -> None:
    columns = {"one": ["It is 1."] * rows, "two": ["No."] * rows}
    found = done(lab, evaluated(lab, brought(lab, JudgeRequest(), columns)))
    assert found.verdict.contrasts[0].decided == "too few rows" and found.verdict.rows == rows
    assert found.verdict.variants[0].primary.low is None or rows == 2


def test_scores_that_came_along_need_no_judge(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    lines = ["model,id,instruction,reference,candidate,score,explanation"]
    lines += [f"old,{n},What is {n}?,{n},a,{0.2 + 0.01 * n},fair" for n in range(8)]
    lines += [f"new,{n},What is {n}?,{n},b,{'' if n == 7 else 0.9 - 0.02 * n},good" for n in range(8)]
    path.write_text("\n".join(lines))
    chosen = FormChoices(source=ANSWERS, file=str(path), judge=IMPORTED_SCORES)
    spec = form_choices.evaluate_request(lab, chosen)
    assert not Path(spec.given).exists()  # a preview writes nothing
    assert (spec.low, spec.high, spec.judge.kind, spec.name) == (0, 1, "given", "mine")
    found = done(lab, ended(lab.evaluations.start(spec, form_choices.imported(chosen))))
    assert found.table.cells["7", "new"].status == "no_answer"
    assert found.verdict.variants[1].failures == {"no_answer": 1} and found.verdict.variants[1].primary.n == 7
    assert found.verdict.title == "points (0-1)" and found.verdict.contrasts[0].decided == "better"
    assert found.answers["0", "new"].explanation == "good" and found.scores == {}


def test_a_judge_without_a_known_price_is_not_chosen(lab: Lab, judge: JudgeServer) -> None:
    far = {"judge_base_url": "https://judge.example/v1", "judge_model": "nobody"}
    with Lab(Settings(**(lab.settings.model_dump() | far), _env_file=None)) as lab, pytest.raises(LabError) as refused:
        lab.evaluations.endpoint()
    assert "No price is known for 'nobody' at the judge's address" in str(refused.value)
    spec = brought(lab, by(judge, address=far["judge_base_url"], free=False), TEXTS)
    assert lab.evaluations.forecast(spec, 3).dollars is None
    run = evaluated(lab, spec)
    assert run.state == "failed" and "No price is known" in run.why and not scores(run)


@pytest.mark.parametrize("free", [False, True])
def test_a_judge_on_this_machine_is_free_only_where_the_owner_says_so(free: bool, lab: Lab, judge: JudgeServer) -> None:
    mine = {"judge_base_url": judge.url, "judge_model": "judge-1", "judge_free": free}
    with Lab(Settings(**(lab.settings.model_dump() | mine), _env_file=None)) as lab:
        if free:
            assert lab.evaluations.endpoint().free
        else:
            with pytest.raises(LabError, match="JUDGE_FREE=1"):
                lab.evaluations.endpoint()
    spec = brought(lab, by(judge, free=free), TEXTS)
    assert (lab.evaluations.forecast(spec, 3).dollars is not None) == free
    run = evaluated(lab, spec)
    assert (run.state == "done") == free == bool(judge.bodies), run.why


def test_both_limits_at_0_ask_not_even_the_trial_question(lab: Lab, judge: JudgeServer) -> None:
    none = {"judge_cap_run": 0, "judge_cap_day": 0}
    with Lab(Settings(**(lab.settings.model_dump() | none), _env_file=None)) as lab:
        with pytest.raises(LabError, match=r"both \$0, so no remote judge is called"):
            brought(lab, by(judge, cap_run=0), TEXTS)
        assert brought(lab, JudgeRequest(cap_run=0), TEXTS)  # a rule makes no call
    spec = brought(lab, by(judge), TEXTS)
    unlimited = spec.model_copy(update={"cap_day": 0.0, "judge": spec.judge.model_copy(update={"cap_run": 0.0})})
    run = evaluated(lab, unlimited)
    assert run.state == "failed" and "both $0" in run.why and judge.bodies == []
