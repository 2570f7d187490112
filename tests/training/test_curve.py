"""Curves as the page draws them: read from events, whatever else stands among them."""

import math
from pathlib import Path
from typing import Any

import pytest

from backend.jobs.events import append_event
from backend.training.status import read_curve, smoothed


def step(folder: Path, *points: tuple[int, float], **facts: Any) -> None:
    append_event(folder, "step", points=[[n, loss, 0.1, 1.0] for n, loss in points], **facts)


def test_points_of_many_events_are_one_curve(tmp_path: Path) -> None:
    append_event(tmp_path, "started")
    step(tmp_path, (1, 5.0), (2, 4.0), step=2, steps=3)
    step(tmp_path, (3, 3.0), step=3, steps=3, evaluations=[[3, 2.5]])
    found = read_curve(tmp_path)
    assert (found.steps, found.losses, found.evaluated, found.evaluations) == ([1, 2, 3], [5.0, 4.0, 3.0], [3], [2.5])
    assert (found.facts["step"], found.facts["steps"]) == (3, 3)


def test_steps_that_were_lost_are_drawn_once_when_they_are_done_again(tmp_path: Path) -> None:
    step(tmp_path, *((n, 9.0) for n in range(1, 8)), step=7)
    append_event(tmp_path, "again")
    append_event(tmp_path, "started")
    append_event(tmp_path, "step", begins=5, state="loading the base")
    step(tmp_path, (6, 1.0), step=6)
    assert read_curve(tmp_path).steps == [1, 2, 3, 4, 5, 6]
    assert read_curve(tmp_path).losses == [9.0] * 5 + [1.0]


def test_a_torn_line_and_foreign_points_are_passed_over(tmp_path: Path) -> None:
    step(tmp_path, (1, 5.0))
    append_event(tmp_path, "step", points="none", evaluations=[[1], ["a", 2], [2, None]])
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "step", "at": 1, "facts": {"points": [[2, 4')
    assert read_curve(tmp_path).steps == [1]
    step(tmp_path, (2, 4.0))
    assert read_curve(tmp_path).steps == [1, 2]
    assert read_curve(tmp_path).evaluations == []


def test_a_run_without_events_has_an_empty_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path).steps == []
    (tmp_path / "events.jsonl").write_bytes(b"\0\0\xff")
    assert read_curve(tmp_path).losses == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 400])
def test_smoothing_keeps_the_length_and_a_level_line_level(count: int) -> None:
    assert smoothed([2.0] * count) == pytest.approx([2.0] * count)


def test_smoothing_lies_between_the_extremes_and_quietens_noise() -> None:
    noise = [math.sin(n * 12.9898) for n in range(300)]
    found = smoothed(noise)
    assert min(noise) <= min(found) and max(found) <= max(noise)
    assert sum(value**2 for value in found) < 0.2 * sum(value**2 for value in noise)
