"""Run folders of each kind as this app writes them, and the ways in which one can be odd.

The folders are written with the classes of the app (JobRequest, Event, Exit, TrainingRecord, Question, Answer ...), so
that a change of those changes these.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.core.messages import Message
from backend.data.dataset import DatasetSpec
from backend.evaluation import records
from backend.evaluation.records import Answer, JudgeRecord, Question, Rating
from backend.evaluation.request import EvaluateRequest, JudgeRequest
from backend.jobs import events
from backend.jobs.folders import Exit, JobRequest
from backend.judge.rubric import rubrics
from backend.judge.score import Identity, Item, Score
from backend.library.requests import DownloadRequest
from backend.library.status import SpeedResult, SpeedTestRequest
from backend.training.artifacts import FOLDER, MADE, TrainingRecord
from backend.training.presets import presets
from backend.training.request import ExportRequest, TrainRequest
from models.variant import Variant

KINDS = ("train", "export", "evaluate", "download", "speed")


def written(runs: Path, kind: str, stamp: str) -> Path:
    """A healthy folder of a run that is done."""
    folder = runs / f"{stamp}-{kind}-one"
    folder.mkdir(parents=True)
    asked, steps = MAKERS[kind](folder)
    spec = JobRequest(kind=kind, name="one", key="k", created=time.time(), asked=asked.model_dump(mode="json"))
    (folder / "spec.json").write_text(json.dumps(spec.model_dump(), indent=1))
    events.append_event(folder, "started", pid=1)
    for one in steps:
        events.append_event(folder, "step", **one)
    events.append_event(folder, "result", **RESULTS[kind])
    events.append_event(folder, "ended")
    (folder / "log.txt").write_text("It was done.\n")
    (folder / "runner.json").write_text('{"runner": [4194303, "never"], "worker": null}')
    (folder / "lock").touch()
    (folder / "exit.json").write_text(Exit(state="done", at=time.time()).model_dump_json())
    return folder


def _train(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    spec = presets()["tiny_lora"].spec
    made = TrainingRecord(
        spec=spec, base="tiny_base", template="{{ messages }}", data="0" * 64, rows=100, held=8, tokens_trained=1000,
        step=2, steps=2, samples=8, loss_first=5.0, loss_last=4.0, seconds=2.0, memory=10**8, engine="transformers",
        machine="a machine",
    )  # fmt: skip
    (folder / FOLDER).mkdir()
    (folder / FOLDER / MADE).write_text(made.model_dump_json())
    (folder / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    for name in ("trainer_state.json", "adapter_model.safetensors", "optimizer.pt"):
        (folder / "checkpoints" / "checkpoint-2" / name).write_text('{"global_step": 2}')
    facts = {"state": "training", "steps": 2, "epoch": 0.1, "samples": 4, "tokens": 500, "tokens_per_second": 9.5}
    facts |= {"left": 1.5, "memory": 10**8, "grace": 60.0}
    points = [{"step": n, "points": [[n, 5.0 / n, 1e-4, 0.5]], "evaluations": [[n, 4.5]]} for n in (1, 2)]
    return TrainRequest(spec=spec), [{"begins": 0, "said": ["It began."]}, *(facts | one for one in points)]


def _export(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    return ExportRequest(run=str(folder), id="one", weights=str(folder)), [{"state": "merging", "done": 1, "total": 2}]


def _download(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    asked = DownloadRequest(variant=Variant(id="one", repo="owner/name", file="one.gguf"), weights=str(folder))
    return asked, [{"state": "downloading", "done": 5, "total": 9, "speed": 3, "left": None, "attempt": 1}]


def _speed(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    return SpeedTestRequest(id="one", weights=str(folder), model="one.gguf", threads=2), [
        {"state": "measuring", "done": 1}
    ]


def _evaluate(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    rubric = rubrics()["overlap"]
    identity = Identity(kind="rule", rubric=rubric.hash)
    questions = [
        Question(id=str(n), cluster=str(n), messages=[Message(role="user", content=f"{n}?")], reference=str(n))
        for n in range(6)
    ]
    (folder / records.ROWS).write_text("".join(one.model_dump_json() + "\n" for one in questions))
    answers = [Answer(row=one.id, variant=name, text=f"{one.id} {name}") for one in questions for name in ("a", "b")]
    (folder / records.ANSWERS).write_text("".join(one.model_dump_json() + "\n" for one in answers))
    (folder / records.JUDGE).write_text(JudgeRecord(identity=identity).model_dump_json())
    scores = []
    for one in answers:
        question = questions[int(one.row)]
        item = Item(messages=question.messages, reference=question.reference, answer=one.text)
        values = {criterion.name: criterion.low + 0.1 * int(one.row) for criterion in rubric.criteria}
        scores.append(Score(key=item.key(identity.id), judge=identity.id, status="ok", values=values))
    (folder / records.SCORES).write_text("".join(one.model_dump_json() + "\n" for one in scores))
    rating = Rating(row="1", variant="a", values={"correctness": 3, "completeness": 3, "faithfulness": 3})
    (folder / records.RATINGS).write_text(rating.model_dump_json() + "\n")
    (folder / records.VARIANTS).write_text('{"a": {"id": "a"}, "b": {"id": "b"}}\n')
    asked = EvaluateRequest(
        name="one", data=DatasetSpec(source="tiny_habit"), variants=("a", "b"), contrasts=(("b", "a"),),
        baselines={"b": "a"}, judge=JudgeRequest(), runs=str(folder), weights=str(folder),
    )  # fmt: skip
    step = {"state": "judging", "done": 5, "total": 9, "failed": 1, "dollars": 0.5, "unknown": 1, "waiting_until": 0.0}
    return asked, [step]


MAKERS: dict[str, Callable[[Path], tuple[Any, list[dict[str, Any]]]]] = {
    "train": _train, "export": _export, "evaluate": _evaluate, "download": _download, "speed": _speed,
}  # fmt: skip
RESULTS: dict[str, dict[str, Any]] = {
    "train": {"step": 2, "loss_first": 5.0, "loss_last": 4.0, "seconds": 2.0, "memory": 10**8},
    "export": {"id": "one", "file": "one.gguf", "size": 10**6, "agreement": 1.0, "kl": 0.001, "seconds": 1.0},
    "evaluate": {"rows": 6, "answers": 12, "failed": 1, "unknown": 0},
    "download": {"id": "one", "size": 10**6, "seconds": 1.0, "from_cache": False, "converted": False},
    "speed": SpeedResult(
        id="one", quantisation="F16", size=10**6, prompt_speed=90.0, generation_speed=9.0, memory=10**8, prompt=8,
        generate=4, repeats=1, threads=2, machine="a machine",
    ).model_dump(exclude={"at"}),
}  # fmt: skip

NUMBERS = [
    "1e300", "-1e300", "1e999", "-1e999", "NaN", "-1", "0", "1e-320", "9007199254740993", "true", "null", "[]", "{}",
    "[[[]]]",
]  # fmt: skip
VALUES = [
    *NUMBERS, "9" * 400, "9" * 5000, '""', '"\\ud800"', '"\\u0000"', '"../../etc/passwd"', '"<img src=x>"', '"now"',
    '"' + "x" * 100_000 + '"', "[" * 100_000 + "]" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000, '["a", 1, null]',
    '{"a": {"b": [1e300]}}', '"\\ud83d\\ude00"', '"99999999"',
]  # fmt: skip


def changed(folder: Path, chance: random.Random) -> Path:
    """The folder with one odd thing, under the name that it has then."""
    return chance.choice(CHANGES)(folder, chance)


def _value(folder: Path, chance: random.Random) -> Path:
    """A value somewhere in a record is another."""
    path = _some(folder, chance)
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    place = chance.randrange(max(1, len(lines)))
    try:
        record = json.loads(lines[place])
    except (ValueError, IndexError, RecursionError):
        return folder
    mark = "the place of the odd value"
    _placed(record, mark, chance)
    lines[place] = json.dumps(record).replace(json.dumps(mark), chance.choice(VALUES)).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    return folder


def _placed(record: Any, mark: str, chance: random.Random) -> None:
    """`mark` in place of one value, however deep, or under a new name."""
    while isinstance(record, dict | list) and record:
        keys = list(record) if isinstance(record, dict) else list(range(len(record)))
        key = chance.choice(keys)
        if not isinstance(record[key], dict | list) or not record[key] or chance.random() < 0.2:
            if isinstance(record, dict) and chance.random() < 0.15:
                record["unknown"] = mark
            elif isinstance(record, dict) and chance.random() < 0.15:
                del record[key]
            else:
                record[key] = mark
            return
        record = record[key]


def _fact(folder: Path, chance: random.Random) -> Path:
    """A fact that pages compute with has another type, in the newest events."""
    names = [*events.FACTS, "points", "evaluations", "begins", "grace", "agreement", "kl", "converted"]
    kind = chance.choice(["step", "result", "started", "failed", "ended", "again"])
    at = chance.choice([str(time.time()), *NUMBERS]) if chance.random() < 0.3 else str(time.time())
    line = f'{{"kind": "{kind}", "at": {at}, "facts": {{"{chance.choice(names)}": {chance.choice(VALUES)}}}}}\n'
    with (folder / events.FILE).open("a") as file:
        file.write(line)
    if chance.random() < 0.5:
        (folder / "exit.json").unlink(missing_ok=True)
    return folder


def _bytes(folder: Path, chance: random.Random) -> Path:
    """Bytes of a file are others, missing or repeated."""
    path = _some(folder, chance)
    data = bytearray(path.read_bytes())
    match chance.randrange(4):
        case 0:
            del data[chance.randrange(len(data) + 1) :]
        case 1:
            data += bytes(chance.randrange(256) for _ in range(50))
        case 2:
            data = bytearray(chance.choice([b"", b"\0" * 100, b"[1]", b"null", b"\xff\xfe{", b"[" * 100_000]))
        case _:
            for _ in range(8):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    return folder


def _place(folder: Path, chance: random.Random) -> Path:
    """Something else is in the place of a file."""
    path = _some(folder, chance)
    path.unlink()
    match chance.randrange(7):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(path)
        case 3:
            path.symlink_to(chance.choice(["/dev/zero", "/dev/full", "/nowhere", folder]))
        case 4:
            with path.open("wb") as file:
                file.truncate(5 << 30)  # it takes no space
        case 5:
            path.touch()
            path.chmod(0)
    return folder


def _name(folder: Path, chance: random.Random) -> Path:
    """The folder's name is another."""
    kind, rest = folder.name.split("-", 4)[3:]
    unique = f"{chance.randrange(10**6):06d}"
    stamp = folder.name[:19]
    names: list[str | bytes] = [
        f"99999999-{unique}-999-{kind}-{rest}", f"00000000-{unique}-000-{kind}-{rest}", f"{stamp}-nothing-{rest}",
        f"{stamp}-{chance.choice(KINDS)}-{rest}", f"{stamp}-{kind}-" + "x" * 200, f"{stamp}-{kind}",
        f"{stamp}-{kind}-{rest}".encode() + b"\xff\xfe", f"{stamp}-{kind}-<b>{rest}\n\x07", f"{stamp}-{kind}-é{rest}",
    ]  # fmt: skip
    new = Path(os.fsdecode(os.path.join(os.fsencode(folder.parent), os.fsencode(chance.choice(names)))))
    return folder if new.exists() else folder.rename(new)


def _whole(folder: Path, chance: random.Random) -> Path:
    """The folder itself is something else, or may not be entered."""
    match chance.randrange(4):
        case 0:
            shutil.rmtree(folder)
            folder.write_text("{}")
        case 1:
            shutil.rmtree(folder)
            folder.symlink_to(folder)
        case 2:
            folder.chmod(0)
        case _:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


CHANGES = (_value, _value, _value, _value, _fact, _fact, _fact, _bytes, _bytes, _place, _place, _name, _whole)


def _some(folder: Path, chance: random.Random) -> Path:
    """One of its files; those that are read first are likelier."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    first = [path for path in files if path.name in ("spec.json", "events.jsonl", "exit.json")]
    return chance.choice(first if first and chance.random() < 0.4 else files)
