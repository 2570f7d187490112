"""A judge is tried on probes before it is believed: a right one passes them all, one that cannot judge is named."""

import importlib.util
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from servers.judge import JudgeServer, Reply, graded
from support.evaluations import answer_in, text_of
from support.judges import endpoint

from backend.judge import check
from backend.judge.check import REPEAT, JudgeCheck, Probe
from backend.judge.grader import Grader, is_empty
from backend.judge.prompt import neutral
from backend.judge.rubric import Rubric, rubrics
from backend.judge.score import Identity, Item, Score

LAB = rubrics()["lab"]
JUDGE = "judge-of-tests"
LEFT = {"wrong": 2, "padded": 5, "truncated": 2, "language": 3, "empty": 1, "refusal": 1, "injection": 1}
"""What a judge that is right gives; everything else is right."""


def scored(item: Item, grade: int | None, rubric: Rubric = LAB) -> Score:
    values = {} if grade is None else {one.name: float(grade) for one in rubric.criteria}
    status: Any = "ok" if values else "bad_json"
    return Score(key=item.key(JUDGE), judge=JUDGE, status=status, values=values, why="" if values else "It is prose.")


def tried(grade: Callable[[Probe, int], int | None], rubric: Rubric = LAB) -> JudgeCheck:
    """A whole check of a judge that gives what the function says."""
    by_id = {one.id: one for one in check.probes()}
    scores = {
        one.id: scored(one.item, grade(by_id[by_id[one.id].again or one.id], one.repeat), rubric)
        for one in check.probe_tasks()
    }
    return check.report(JUDGE, rubric, scores)


def right(probe: Probe, repeat: int) -> int:
    return LEFT.get(probe.kind, 5)


def passed(report: JudgeCheck) -> Counter[str]:
    return Counter(one.kind for one in report.tried if one.passed)


def test_the_probes_are_sound() -> None:
    probes = check.probes()
    ids = [one.id for one in probes]
    assert len(probes) == len(set(ids)) == 24
    assert Counter(one.kind for one in probes) == Counter(
        copied=3, short=2, wrong=3, padded=1, empty=2, truncated=1, language=1, refusal=1, injection=6, repeat=4
    )
    for one in probes:
        named = {one.below, one.not_above, one.again} - {""}
        assert named <= set(ids[: ids.index(one.id)]), one.id
        expectations = (one.least, one.most, one.below or None, one.not_above or None, one.again or None)
        assert sum(each is not None for each in expectations) == 1, one.id
        assert one.criterion in ("", *(each.name for each in LAB.criteria))
        assert all(0 <= each <= 1 for each in (one.least or 0, one.most or 0, one.by))
        assert bool(one.again) == (one.kind == "repeat") == (not one.instruction)


def test_every_probe_costs_a_question_and_none_is_asked_twice_but_those_that_are_repeated() -> None:
    wanted = check.probe_tasks()
    keys = [one.item.key(JUDGE, one.repeat) for one in wanted]
    assert len(wanted) == len(set(keys)) == 24 and not any(is_empty(one.item.answer) for one in wanted)
    assert sum(one.repeat == REPEAT for one in wanted) == 4
    plain = {one.item.key(JUDGE) for one in wanted if not one.repeat}
    assert {one.item.key(JUDGE) for one in wanted if one.repeat} <= plain


def test_a_copied_answer_is_the_reference_and_a_truncated_one_is_marked_as_cut() -> None:
    for one in check.probes():
        assert (one.answer == one.reference) == (one.kind in ("copied", "repeat")), one.id
        assert one.cut == (one.kind == "truncated"), one.id


def test_a_judge_that_is_right_passes_everything() -> None:
    report = tried(right)
    assert (report.passed, len(report.tried), report.injections, report.reliable) == (24, 24, (6, 6), True)
    assert report.sentence == "24 of 24 probes passed, 6 of 6 injections resisted, repeat SD 0.00"
    assert not any(one.why for one in report.tried) and report.judge == JUDGE


@pytest.mark.parametrize(
    ("grade", "passes", "resisted"),
    [(5, 3 + 2 + 1 + 4, 0), (1, 2 + 1 + 1 + 6 + 1 + 1 + 4, 6), (3, 1 + 1 + 1 + 4, 0), (4, 2 + 1 + 1 + 4, 0)],
)
def test_a_judge_that_gives_everybody_the_same_is_unreliable(grade: int, passes: int, resisted: int) -> None:
    report = tried(lambda probe, repeat: grade)
    assert (report.passed, report.injections, report.reliable) == (passes, (resisted, 6), False)
    assert report.sentence.startswith(f"unreliable judge: {passes} of 24 probes passed, {resisted} of 6 injections")


@pytest.mark.parametrize(("obeyed", "reliable"), [(0, True), (1, True), (2, False), (6, False)])
def test_a_judge_that_obeys_injections_is_unreliable_however_right_the_rest_is(obeyed: int, reliable: bool) -> None:
    weak = [one.id for one in check.probes() if one.kind == "injection"][:obeyed]
    report = tried(lambda probe, repeat: 5 if probe.id in weak else right(probe, repeat))
    assert (report.passed, report.injections) == (24 - obeyed, (6 - obeyed, 6))
    assert report.reliable is reliable is not report.sentence.startswith("unreliable judge: ")
    assert [one.id for one in report.tried if not one.passed] == weak
    assert all("it got 100% of the scale, at most 35%" in one.why for one in report.tried if not one.passed)


@pytest.mark.parametrize("seed", range(20))
def test_a_judge_that_rolls_dice_is_unreliable(seed: int) -> None:
    dice = random.Random(seed)
    report = tried(lambda probe, repeat: dice.randint(1, 5))
    assert not report.reliable and 0 < report.passed < 20
    assert report.repeat_sd is not None and report.sentence.endswith(f"repeat SD {report.repeat_sd:.2f}")


def test_a_judge_that_fails_passes_nothing_and_no_failure_counts_as_a_grade() -> None:
    report = tried(lambda probe, repeat: None)
    assert (report.passed, report.injections, report.reliable, report.repeat_sd) == (0, (0, 6), False, None)
    assert report.sentence == "unreliable judge: 0 of 24 probes passed, 0 of 6 injections resisted"
    assert {(one.share, one.why) for one in report.tried} == {(None, "no score: It is prose.")}


def test_a_check_that_was_stopped_has_failed_what_was_not_judged() -> None:
    report = check.report(JUDGE, LAB, {})
    assert not report.reliable and {one.why for one in report.tried} == {"it was not judged"}


def test_a_probe_is_not_passed_when_what_it_is_compared_with_has_no_score() -> None:
    report = tried(lambda probe, repeat: None if probe.id == "short: boiling" else right(probe, repeat))
    found = {one.id: one for one in report.tried}
    assert not found["fluent but wrong: boiling"].passed and not found["again: boiling"].passed
    assert "'short: boiling', which it is compared with, has no score" in found["fluent but wrong: boiling"].why
    assert report.passed == 21 and report.reliable


def test_a_judge_that_gives_something_else_the_second_time_fails_the_repetition() -> None:
    report = tried(lambda probe, repeat: right(probe, 0) - 2 * repeat if right(probe, 0) > 2 else right(probe, 0))
    assert passed(report)["repeat"] == 2 and report.repeat_sd == pytest.approx((2 * 2**2 / 4 / 2) ** 0.5)


def test_a_judge_that_pays_for_padding_is_seen() -> None:
    report = tried(lambda probe, repeat: {"padded": 5, "copied": 4}.get(probe.kind, right(probe, repeat)))
    (found,) = [one for one in report.tried if one.kind == "padded"]
    assert not found.passed and "100%" in found.why and "'copied: colours' got 75%" in found.why


def test_the_brief_rubric_is_checked_by_its_one_number() -> None:
    brief = rubrics()["brief"]
    report = tried(right, brief)
    assert report.passed == 24 and not tried(lambda probe, repeat: 5, brief).reliable


def test_a_report_comes_back_as_it_was_written() -> None:
    report = tried(right)
    assert JudgeCheck.model_validate_json(report.model_dump_json()) == report


def copied(folder: Path, old: str = "", new: str = "") -> ModuleType:
    """The module beside other probes: it reads the file that lies beside it."""
    source = Path(check.__file__)
    folder.mkdir()
    (folder / "check.py").write_bytes(source.read_bytes())
    text = source.with_name("probes.toml").read_text()
    assert old in text
    (folder / "probes.toml").write_text(text.replace(old, new, 1) if old else text)
    spec = importlib.util.spec_from_file_location(f"check_{folder.name}", folder / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_digest_changes_with_every_word_of_the_probes_and_with_nothing_else(tmp_path: Path) -> None:
    same = copied(tmp_path / "same", "# Probes: answers", "# What any judge").digest()
    word = copied(tmp_path / "word", "undisputed giant", "undoubted giant").digest()
    bound = copied(tmp_path / "bound", "most = 0.35", "most = 0.36").digest()
    assert same == check.digest() == tried(right).probes and re.fullmatch(r"[0-9a-f]{12}", same)
    assert len({same, word, bound}) == 3


@pytest.mark.parametrize(("old", "new"), [("least = 0.9", "leas = 0.9"), ('kind = "wrong"', 'kind = "wrongly"')])
def test_a_wrong_entry_is_an_error_and_not_a_probe_less(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ValueError, match="1 validation error for Probe"):
        copied(tmp_path / "wrong", old, new).probes()


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def asked(judge: JudgeServer, folder: Path) -> JudgeCheck:
    identity = Identity(kind="endpoint", model="judge-1", address=judge.url, rubric=LAB.hash)
    grader = Grader(endpoint(judge, folder), LAB, identity)
    return check.report(identity.id, LAB, {one.id: grader.score(one.item, one.repeat) for one in check.probe_tasks()})


def test_a_scripted_judge_that_is_right_passes_over_the_wire(judge: JudgeServer, tmp_path: Path) -> None:
    grades = {neutral(one.answer): right(one, 0) for one in check.probes()}
    judge.rule = lambda body: graded(text_of(grades[answer_in(body)]))
    report = asked(judge, tmp_path)
    assert report.sentence == "24 of 24 probes passed, 6 of 6 injections resisted, repeat SD 0.00"
    assert judge.calls == 24


def test_a_judge_that_repeats_the_verdict_of_an_answer_never_gives_a_score_for_it(
    judge: JudgeServer, tmp_path: Path
) -> None:
    def rule(body: dict[str, Any]) -> Reply:
        planted = answer_in(body) if '"correctness": 5' in answer_in(body) else ""
        return graded(f"It says: {planted}\n{text_of(1)}" if len(body["messages"]) == 2 else text_of(1))

    judge.rule = rule
    report = asked(judge, tmp_path)
    assert report.injections == (6, 6) and judge.calls == 24 + 2
    assert all(len(json.dumps(body)) < 10_000 for body in judge.bodies)
