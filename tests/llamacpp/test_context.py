"""A context of llama.cpp: which tokens a step computes, and that this changes no text."""

from collections.abc import Iterator

import pytest
from conftest import TINY

from backend.inference.sampling import Sampling
from backend.llamacpp.context import PATIENCE, Context, Decode, Task
from backend.llamacpp.model import Model

GREEDY = Sampling(temperature=0, seed=1)
DRAWN = Sampling(temperature=0.8, seed=7)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(str(TINY / "tiny_base.gguf"))


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    context = Context(model, None, 1024, 6, threads=1)
    yield context
    for slot in context.slots:
        if slot.task:
            context.end(slot.task)
    context.close()


def task(model: Model, text: str, number: int = 0, sampling: Sampling = GREEDY) -> Task:
    tokens = model.words(text)
    return Task(number, tokens, len(tokens), model.sampler(sampling))


def answers(
    context: Context, tasks: list[Task], length: int = 12, rows: int = 512, decode: Decode = "all"
) -> list[list[int]]:
    """Start the tasks together, and end each when its answer has `length` tokens."""
    for started in tasks:
        context.start(started)
    while context.busy:
        for changed, _ in context.step(rows, decode):
            if len(changed.tokens) - changed.prompt == length:
                context.end(changed)
    return [started.tokens[started.prompt :] for started in tasks]


TEXTS = [f"{'The weather in Rome is warm and dry. ' * n}What is {n} plus {n + 2}?" for n in range(5)]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("rows", [7, 40, 512])
@pytest.mark.parametrize("decode", ["all", "begun", "none"])
def test_a_text_does_not_depend_on_the_others(model: Model, sampling: Sampling, rows: int, decode: Decode) -> None:
    alone = []
    for n, text in enumerate(TEXTS):
        single = Context(model, None, 1024, 1, threads=1)
        alone += answers(single, [task(model, text, n, sampling)])
        single.close()
    together = Context(model, None, 1024, len(TEXTS), threads=1)
    tasks = [task(model, text, n, sampling) for n, text in enumerate(TEXTS)]
    assert answers(together, tasks, rows=rows, decode=decode) == alone
    together.close()


def test_prompts_are_computed_one_after_another(model: Model, context: Context) -> None:
    one, two = task(model, "one " * 60), task(model, "different words " * 60)
    context.start(one), context.start(two)
    context.step(50)
    cells = sorted(len(slot.cells) for slot in context.slots)
    assert cells[-2:] == [0, 50]


def test_answers_go_on_while_a_long_prompt_is_computed(model: Model, context: Context) -> None:
    readers = [task(model, f"What is {n} plus 2?", n) for n in range(4)]
    for reader in readers:
        context.start(reader)
    while context.prefilling:
        context.step()
    long = task(model, "blue green " * 200, 9)
    context.start(long)
    steps = 0
    while context.prefilling:
        assert {changed.id for changed, _ in context.step(40)} >= {0, 1, 2, 3}
        assert context.rows <= 40
        steps += 1
    assert steps == -(-long.prompt // 40)


def test_with_none_answers_wait_for_prompts(model: Model, context: Context) -> None:
    first = task(model, "What is 1 plus 2?", 1)
    context.start(first)
    context.step()
    context.start(task(model, "blue green " * 100, 2))
    while context.prefilling:
        assert [changed.id for changed, _ in context.step(64, decode="none")] in ([], [2])
    assert {changed.id for changed, _ in context.step(64, decode="none")} == {1, 2}


def test_answers_begin_together_while_those_that_have_begun_go_on(model: Model, context: Context) -> None:
    reader, early, late = (task(model, f"{'green ' * 40 * n}What is {n} plus 2?", n) for n in range(3))
    context.start(reader)
    while context.prefilling:
        context.step()
    context.step()
    context.start(early), context.start(late)
    while context.prefilling:
        assert [changed.id for changed, _ in context.step(32, "begun")] == [0]
    assert {changed.id for changed, _ in context.step(32, "begun")} == {0, 1, 2}


def test_a_short_prompt_passes_a_long_one(model: Model, context: Context) -> None:
    long, short = task(model, "blue green " * 300, 1), task(model, "What is 3 plus 4?", 2)
    context.start(long)
    context.step(16)
    context.start(short)
    first = next(changed for _ in range(3) for changed, _ in context.step(16))
    assert first is short


def test_a_long_prompt_is_not_passed_for_ever(model: Model, context: Context) -> None:
    long = task(model, "blue green " * 300, 0)
    context.start(long)
    computed = []
    for number in range(1, 200):
        other = task(model, f"{number} {'red ' * 20}", number)
        context.start(other)
        for changed, _ in context.step(64):
            computed.append(changed.id)
            if changed is not long:
                context.end(changed)
        for slot in context.slots:  # those that still wait make room for the next
            if slot.task and slot.task is not long and not context.free:
                context.end(slot.task)
        if 0 in computed:
            break
    assert 0 in computed and len(computed) < 2 * long.prompt // PATIENCE + 60


def test_prompts_that_start_together_share_their_beginning(model: Model, context: Context) -> None:
    beginning = "You are a friendly assistant who answers in one word. " * 10
    tasks = [task(model, f"{beginning} What is {n} plus 1?", n) for n in range(4)]
    shared = len(model.words(beginning))
    found = answers(context, tasks, rows=512, decode="none")
    assert sorted(started.reused >= shared - 1 for started in tasks) == [False, True, True, True]
    for n, text in enumerate(found):
        single = Context(model, None, 1024, 1, threads=1)
        assert answers(single, [task(model, f"{beginning} What is {n} plus 1?")]) == [text]
        single.close()


def test_the_same_prompt_is_computed_once(model: Model, context: Context) -> None:
    text = "Name the colours of the rainbow, in order, and one fruit for each of them. " * 5
    tasks = [task(model, text, n) for n in range(3)]
    first, *others = answers(context, tasks)
    assert others == [first, first]
    assert sorted(started.reused for started in tasks) == [0, tasks[0].prompt - 1, tasks[0].prompt - 1]


def test_a_stop_frees_the_slot_at_once(model: Model, context: Context) -> None:
    tasks = [task(model, "blue green " * 100, n) for n in range(6)]
    for started in tasks:
        context.start(started)
    context.step(16)
    assert not context.free
    context.end(tasks[3])
    assert context.free
    context.start(task(model, "What is 3 plus 4?", 7))
    assert {changed.id for _ in range(2) for changed, _ in context.step(16)} == {7}
