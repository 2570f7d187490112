"""One odd run folder stops neither the app nor a tab, and hides no other run."""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest
from conftest import start_app, stop_app
from gradio_client import Client
from support.run_folders import KINDS, changed, written

from app.judge import answer_view, ratings_panel, result_view
from app.judge import view as judge_view
from app.library import view as library_view
from app.runs import view as runs_view
from app.train import view as train_view
from backend.core.errors import LabError
from backend.jobs.events import append_event
from backend.jobs.fake_request import FakeRequest
from backend.jobs.launcher import launch
from backend.jobs.run import Run
from backend.lab import Lab
from backend.report import figures
from backend.report.files import EXPORTS, export

SEED = 3407
COUNT, TOGETHER = 500, 25
LONGEST = 30.0  # seconds for TOGETHER folders, of which one may hold 5 GB


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the block waits for a pipe, or reads without end."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it took more than {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def runs(lab: Lab) -> Iterator[Path]:
    """Healthy runs of each kind. Folders that a test locked can be removed again."""
    runs = lab.settings.lab_runs
    for number, kind in enumerate(KINDS):
        written(runs, kind, f"20261120-12000{number}-000")
    yield runs
    _opened(runs)


def _opened(runs: Path) -> None:
    for path in runs.iterdir():
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
            for file in path.iterdir():
                if not file.is_symlink():
                    file.chmod(0o755)


def seen(lab: Lab) -> dict[str, str]:
    """Every run that a tab lists, with its state, after all that a page shows of it was made."""
    found: dict[str, str] = {}
    trained = lab.training.statuses()
    page: list[Any] = [runs_view.runs(trained), runs_view.runs(trained, False)]
    for one in trained:
        page += [runs_view.label(one), runs_view.detail(one), runs_view.card(one), one.log]
        page += [runs_view.settings([one]), train_view.attempt(one)]
        found[one.id] = one.state
    page.append(figures.losses([(one.name, one) for one in trained if one.curve.steps]).to_json())
    judged = lab.evaluations.statuses()
    page.append(judge_view.options(judged))
    for each in judged:
        now = lab.evaluations.checked(each)
        page.append(judge_view.progress(now))
        found[now.id] = now.state
        if now.spec:
            page += _verdict(lab, now.id)
    moved = lab.library.transfers()
    page += [library_view.transfers(moved), library_view.live(moved), library_view.speeds(lab.library.speeds())]
    page.append([[entry.variant.id, entry.state, entry.why] for entry in lab.library.entries(moved)])
    found |= {transfer.id: transfer.state for transfer in moved}
    lab.training.reap_orphans()
    orjson.dumps([page, list(found)], default=str)  # as the page is sent
    return found


def _verdict(lab: Lab, run: str) -> list[Any]:
    result = lab.evaluations.result(run)
    shows: list[Callable[..., Any]] = [
        result_view.about, result_view.variants, result_view.contrasts, result_view.criteria, result_view.check,
    ]  # fmt: skip
    page = [show(result) for show in shows]
    page += [result_view.human_agreement(result.people), ratings_panel.task_html(lab.evaluations.next_to_rate(run))]
    if result.questions:
        page += [result_view.headline(result), *(export(result, what) for what in EXPORTS)]
        page += [answer_view.cell(result, result.questions[0].id, name) for name in result.spec.variants]
    page += [answer_view.heat(result, which) for which in answer_view.FILTERS]
    if any(one.difference.n for one in result.verdict.contrasts):
        page.append(figures.forest(result.verdict).to_json())
    return page


@pytest.mark.parametrize("batch", range(COUNT // TOGETHER))
def test_no_odd_folder_stops_a_tab_or_hides_a_run(batch: int, lab: Lab, runs: Path) -> None:
    """500 kinds from a seed. Each folder is listed, as unreadable or with what is left of it; so is each sound one."""
    healthy = {path.name for path in runs.iterdir()}
    odd = set()
    for number in range(batch * TOGETHER, (batch + 1) * TOGETHER):
        chance = random.Random(SEED * 1000 + number)
        folder = written(runs, chance.choice(KINDS), f"20261102-{number:06d}-000")
        for _ in range(chance.choice([1, 1, 1, 2])):
            with contextlib.suppress(OSError, IndexError):  # it is too odd for a second change
                folder = changed(folder, chance)
        with contextlib.suppress(OSError):
            os.utime(folder, (1e9, 1e9))  # not one that is just being started
        odd.add(Run(folder).id)
    with within(LONGEST):
        found = seen(lab)
    assert {name: found.get(name) for name in healthy} == dict.fromkeys(healthy, "done")
    recent = {name for name in odd if name.split("-")[3] in ("download", "speed")}  # only the newest are listed
    assert odd - set(found) <= recent, sorted(odd - set(found))
    if batch % 5 == 0:
        run = launch(runs, "rehearse", "after all that", FakeRequest(steps=1, pause=0), f"key {batch}")
        assert run.live or run.state == "done"
        end = time.monotonic() + 30
        while run.live and time.monotonic() < end:
            time.sleep(0.05)
        assert run.state == "done", run.why


def spoil(path: Path, text: str) -> None:
    path.write_text(text)


def spec_with(folder: Path, **fields: Any) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | fields))


def tell(folder: Path, **fields: Any) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "step", "at": 1.0, "facts": {}} | fields) + "\n")


def instead(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 << 30)


EXTREMES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "events are a folder": (lambda at: instead(at / "events.jsonl", Path.mkdir), "events.jsonl is not a file"),
    "events are a pipe": (lambda at: instead(at / "events.jsonl", os.mkfifo), "events.jsonl is not a file"),
    "the lock is a pipe": (lambda at: instead(at / "lock", os.mkfifo), "lock is not a file"),
    "the end is a device": (
        lambda at: instead(at / "exit.json", lambda path: path.symlink_to("/dev/zero")), "exit.json is not a file"),
    "a circle of links": (
        lambda at: instead(at / "spec.json", lambda path: path.symlink_to(path)), "symbolic links"),
    "it was asked for in the year 1e300": (lambda at: spec_with(at, created=1e300), "created"),
    "it was asked for at no time": (lambda at: spec_with(at, created=float("nan")), "created"),
    "it ended in the year 1e300": (lambda at: spoil(at / "exit.json", '{"state": "done", "at": 1e300}'), "exit.json"),
    "a time of 1e300": (lambda at: tell(at, at=1e300), "the time 1e+300"),
    "a fact of a wrong type": (lambda at: tell(at, facts={"memory": "much"}), "the fact memory"),
    "a number beyond all bounds": (lambda at: tell(at, facts={"size": 10**400}), "the fact size"),
    "an infinite fact": (lambda at: tell(at, facts={"left": float("inf")}), "the fact left"),
    "what was asked is a list": (lambda at: spoil(at / "spec.json", "[1, 2]"), "spec.json"),
    "100,000 brackets": (lambda at: spoil(at / "spec.json", "[" * 100_000), "spec.json"),
    "nothing was asked": (lambda at: (at / "spec.json").unlink(), "no spec.json"),
    "5 GB were asked": (lambda at: sparse(at / "spec.json"), "more than 16 MB"),
    "a lone surrogate in a name": (lambda at: spoil(at / "spec.json", '{"name": "\\ud800"}'), "spec.json"),
    "another kind was asked": (lambda at: spec_with(at, kind="rehearse"), "another kind"),
}  # fmt: skip


@pytest.mark.parametrize("what", EXTREMES)
@pytest.mark.parametrize("kind", ["train", "evaluate", "download"])
def test_an_odd_folder_is_listed_as_unreadable_with_a_sentence(what: str, kind: str, lab: Lab, runs: Path) -> None:
    spoiled, why = EXTREMES[what]
    folder = written(runs, kind, "20261103-120000-000")
    spoiled(folder)
    os.utime(folder, (1e9, 1e9))
    with within(5):
        assert seen(lab)[folder.name] == "unreadable"
        tabs: list[list[Any]] = [lab.training.statuses(), lab.evaluations.statuses(), lab.library.transfers()]
        (one,) = (one for tab in tabs for one in tab if one.id == folder.name)
    assert why in one.why and "cannot be read" in one.why and "Move it out of runs/ or delete it" in one.why
    assert str(runs) not in one.why
    for act in (lab.training.resume, lab.evaluations.resume, lab.library.cancel, lab.training.stop):
        with pytest.raises(LabError), within(5):
            act(folder.name)


@pytest.mark.parametrize("name", ["99999999-999999-999", "99999999-000000-000", "00000000-000000-000"])
def test_a_name_from_an_impossible_year_is_listed_and_does_not_number_new_runs(name: str, lab: Lab, runs: Path) -> None:
    written(runs, "train", name)
    assert seen(lab)[f"{name}-train-one"] == "unreadable"
    run = launch(runs, "rehearse", "next", FakeRequest(steps=1, pause=0))
    assert run.id[:2] == "20" and run in [Run(path) for path in runs.iterdir()]
    assert lab.training.statuses()[0].id != f"{name}-train-one"
    while run.live:
        time.sleep(0.05)


def test_a_name_that_is_no_text_is_listed(lab: Lab, runs: Path) -> None:
    written(runs, "train", "20261103-120000-000").rename(
        os.fsdecode(os.fsencode(runs) + b"/20261103-120000-000-train-\xff")
    )
    assert seen(lab)["20261103-120000-000-train-\\udcff"] == "unreadable"


def test_events_of_5_gb_are_not_read_to_their_beginning(lab: Lab, runs: Path) -> None:
    folder = written(runs, "train", "20261103-120000-000")
    sparse(folder / "events.jsonl")
    append_event(folder, "step", step=1, steps=2, points=[[1, 2.0, 0.1, 1.0]])
    with within(15):
        (one,) = (one for one in lab.training.statuses() if one.id == folder.name)
    assert one.state == "done" and one.curve.losses == [2.0]


def test_records_that_cannot_be_read_make_an_evaluation_unreadable_when_it_is_looked_at(lab: Lab, runs: Path) -> None:
    folder = written(runs, "evaluate", "20261103-120000-000")
    instead(folder / "scores.jsonl", Path.mkdir)
    assert seen(lab)[folder.name] == "unreadable"
    with pytest.raises(LabError, match=r"scores.jsonl it is not a file. Move it out of runs/"):
        lab.evaluations.result(folder.name)


@pytest.mark.long
def test_the_tabs_of_the_app_show_them(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for number, kind in enumerate(KINDS):
        written(runs, kind, f"20261120-12000{number}-000")
    for number, (spoiled, _) in enumerate(EXTREMES.values()):
        for kind in ("train", "evaluate", "download"):
            folder = written(runs, kind, f"20261102-1200{number:02d}-000")
            spoiled(folder)
            os.utime(folder, (1e9, 1e9))
    written(runs, "train", "99999999-999999-999")
    app = start_app(tmp_path)
    try:
        client = Client(app.url, verbose=False)
        for tab in ("/runs", "/judge", "/library"):
            told = json.dumps(client.predict(api_name=tab), default=str)
            assert told.count("unreadable") >= len(EXTREMES), tab
            assert "cannot be read" in told or tab == "/judge"  # it shows the sentence of the one that is chosen
    finally:
        stop_app(app)
