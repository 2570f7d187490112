"""The answers of an evaluation, by the real worker and the toy: what is answered once, and with how much memory."""

import random
from pathlib import Path
from typing import Any

import pytest

from backend.core import machine
from backend.core.messages import Message
from backend.core.settings import Settings
from backend.data.dataset import DatasetSpec
from backend.evaluation import records
from backend.evaluation.answering import engines_for, generate_answers
from backend.evaluation.records import Answer, Question
from backend.evaluation.request import EvaluateRequest
from backend.inference import placement
from backend.inference.engines import Engines
from backend.inference.reply import Reply
from backend.inference.sampling import Sampling
from models.catalogue import list_variants

CAPITAL = "What is the capital of France?"


def question(number: int, text: str) -> Question:
    messages = [Message(role="user", content=text)]
    return Question(id=str(number), cluster=records.cluster(messages), messages=messages)


def request(folder: Path, **more: Any) -> EvaluateRequest:
    fields: dict[str, Any] = {
        "name": "test", "data": DatasetSpec(source="tiny_habit"), "variants": ("tiny_base",), "runs": str(folder),
        "weights": str(folder), "context": 1024, "sampling": Sampling(temperature=0, seed=1, max_tokens=8),
    }  # fmt: skip
    return EvaluateRequest(**(fields | more))


def answered(folder: Path, questions: list[Question], **more: Any) -> tuple[list[Answer], int]:
    """The answers of tiny_base in the order of the questions, and the tokens that were generated."""
    generated = []
    generate_answers(request(folder, **more), questions, folder, lambda done, total, tokens: generated.append(tokens))
    found = records.answers(folder)
    return [found[question.id, "tiny_base"] for question in questions], generated[-1]


def test_a_row_that_occurs_twice_is_answered_once(tmp_path: Path) -> None:
    questions = [question(0, CAPITAL), question(1, "What is 2 plus 3?"), question(2, CAPITAL)]
    (first, other, second), tokens = answered(tmp_path, questions)
    assert first.text and (first.text, first.generation) == (second.text, second.generation)
    assert (first.row, second.row) == ("0", "2")
    assert tokens == first.tokens + other.tokens


def test_answers_with_a_drawn_seed_are_all_generated(tmp_path: Path) -> None:
    drawn = Sampling(temperature=1.5, seed=-1, max_tokens=8)
    (first, second), tokens = answered(tmp_path, [question(n, CAPITAL) for n in range(2)], sampling=drawn)
    assert first.generation and second.generation and first.generation.seed != second.generation.seed
    assert tokens == first.tokens + second.tokens


def test_a_row_with_more_tokens_than_estimated_is_answered_with_the_context_of_the_request(tmp_path: Path) -> None:
    letters = "".join(random.Random(0).choices("qxzjkvw", k=840))
    (short, long), _ = answered(tmp_path, [question(0, CAPITAL), question(1, letters)])
    assert short.generation and long.generation and not short.error and not long.error
    assert short.generation.context_size < long.generation.prompt_tokens < long.generation.context_size == 1024


def test_a_row_that_does_not_fit_at_all_is_an_error_and_the_others_are_answered(tmp_path: Path) -> None:
    letters = "".join(random.Random(0).choices("qxzjkvw", k=3000))
    (short, long), _ = answered(tmp_path, [question(0, CAPITAL), question(1, letters)])
    assert short.text and not short.error
    assert "1,024" in long.error


def test_slots_are_as_many_as_rows_and_as_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(entry for entry in list_variants(tmp_path) if entry.variant.id == "tiny_base")
    spec = request(tmp_path)
    assert [engines_for(spec, [entry], rows, 1024).slots for rows in (1, 20, 500)] == [1, 20, 64]
    many = engines_for(spec, [entry], 500, 256).slots
    monkeypatch.setattr(machine, "memory_free", lambda: 400 << 20)
    few = [engines_for(spec, [entry], 500, context).slots for context in (1024, 256)]
    assert 1 <= few[0] < few[1] <= many == 64


def test_variants_of_a_base_are_answered_in_blocks_and_as_each_alone(tmp_path: Path) -> None:
    questions = [question(n, f"What is {n} plus {n + 3}?") for n in range(6)]
    texts, order = {}, []
    for place, variants in enumerate([("tiny_base", "tiny_lora"), ("tiny_base",), ("tiny_lora",)]):
        folder = tmp_path / str(place)
        folder.mkdir()
        generate_answers(request(folder, variants=variants, slots=1), questions, folder, lambda *progress: None)
        found = records.answers(folder)
        order = order or [(answer.variant, int(answer.row)) for answer in found.values()]
        texts[variants] = {key: answer.text for key, answer in found.items()}
    assert order == [(name, n) for rows in ((0, 1, 2, 3), (4, 5)) for name in ("tiny_base", "tiny_lora") for n in rows]
    assert texts["tiny_base", "tiny_lora"] == texts["tiny_base",] | texts["tiny_lora",]
    assert list(texts["tiny_base",].values()) != list(texts["tiny_lora",].values())


def test_an_engine_for_an_evaluation_has_one_context_and_answers_in_the_order_of_arrival(settings: Settings) -> None:
    entries = {entry.variant.id: entry for entry in list_variants(settings.lab_weights)}
    engines = Engines(settings.model_copy(update={"lab_slots": 2}), lambda file, how: None, throughput=True)

    def reply(name: str, number: int) -> Reply:
        spec, form = placement.model_spec(entries[name], 512), placement.prompt_format(entries[name])
        messages = [Message(role="user", content=f"What is {number} plus 1?")]
        return engines.reply(spec, messages, Sampling(temperature=0, seed=1, max_tokens=8), form)

    names = ["tiny_base"] * 3 + ["tiny_lora"] * 3 + ["tiny_base"]
    replies = [reply(name, number) for number, name in enumerate(names)]
    try:
        for place, block in ((3, replies[:3]), (6, replies[:6])):
            next(iter(replies[place]))  # its first text
            assert all(earlier.state == "ended" for earlier in block)
        assert all(one.text() and one.generation for one in replies)
    finally:
        engines.close()
