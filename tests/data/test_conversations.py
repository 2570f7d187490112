"""Every shape of a row becomes the same conversation, word for word, or is dropped with its reason."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from backend.core.errors import LabError
from backend.data.dataset import DatasetSpec
from backend.data.load import load
from backend.data.rows import LoadedData

ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(*rows: Any, **settings: Any) -> LoadedData:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load(DatasetSpec(source=str(path), held_rows=0, **settings))

    return read


def turns(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": what} for who, what in pairs]}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (turns(("system", "s"), ("human", "q"), ("gpt", "a")), "sharegpt"),
        (turns(("system", "s"), ("user", "q"), ("assistant", "a")), "sharegpt"),
        (turns(("system", "s"), ("Human", "q"), ("chatgpt", "a")), "sharegpt"),
        (turns(("human", "q"), ("model", "a")) | {"system": "s"}, "sharegpt"),
        ({"conversations": {"from": ["system", "human", "gpt"], "value": ["s", "q", "a"]}}, "sharegpt"),
        ({"messages": [SYSTEM, ASKED, ANSWERED], "prompt": "q", "completion": "other"}, "messages"),
        ({"conversations": [SYSTEM, ASKED, ANSWERED]}, "messages"),
        ({"turns": [SYSTEM, ASKED, ANSWERED]}, "messages"),
        ({"messages": [ASKED, ANSWERED], "system": "s"}, "messages"),
        ({"instruction": "q", "input": "", "output": "a", "system": "s"}, "alpaca"),
        ({"instruction": "q", "input": None, "output": "a", "system": "s"}, "alpaca"),
        ({"Instruction": "q", "Response": "a", "System": "s"}, "alpaca"),
        ({"prompt": "q", "completion": "a", "system": "s"}, "prompt_completion"),
        ({"question": "q", "answer": "a", "system": "s"}, "prompt_completion"),
        ({"prompt": [SYSTEM, ASKED], "completion": [ANSWERED]}, "prompt_completion"),
    ],
)
def test_a_shape_is_recognised(row: dict[str, Any], shape: str, read: Any) -> None:
    data = read(row)
    assert [*data.train[0].messages] == [SYSTEM, ASKED, ANSWERED] and data.shape == shape


def test_an_instruction_and_its_input_are_one_question(read: Any) -> None:
    data = read({"instruction": "Add.", "input": "1 and 2 ", "output": "3"})
    assert data.train[0].messages[0]["content"] == "Add.\n\n1 and 2 "


def test_an_input_that_comes_late_is_not_forgotten(read: Any) -> None:
    data = read(*[{"instruction": "q", "output": "a"}] * 60, {"instruction": "q", "input": "x", "output": "a"})
    assert data.train[60].messages[0]["content"] == "q\n\nx"


def test_columns_can_be_named(read: Any) -> None:
    row = {"prompt": "no", "input": "q", "output": "no", "chosen": "a", "note": "s", "story": "c", "chat": [ASKED]}
    data = read(row, prompt="input", answer="chosen", system="note", context="story")
    assert [*data.train[0].messages] == [SYSTEM, {"role": "user", "content": "q\n\nc"}, ANSWERED]


def test_a_named_column_of_turns_is_read(read: Any) -> None:
    data = read({"chat": [ASKED, ANSWERED], "messages": []}, conversation="chat")
    assert [*data.train[0].messages] == [ASKED, ANSWERED] and data.shape == "messages"


def test_a_shape_that_is_asked_for_counts(read: Any) -> None:
    row = {"messages": [ASKED, ANSWERED], "instruction": "x", "input": "y", "output": "z"}
    assert read(row, shape="alpaca").train[0].messages[0]["content"] == "x\n\ny"
    assert read(row, shape="prompt_completion").train[0].messages[0]["content"] == "x"
    with pytest.raises(LabError, match="A turn is not an object with from and value"):
        read(row | {"messages": [{"role": "user", "message": "q"}]}, shape="sharegpt")


def test_a_column_that_is_not_there_is_refused_with_those_that_are(read: Any) -> None:
    with pytest.raises(LabError, match=r"no column 'chat'\. The columns are 'prompt', 'completion'"):
        read({"prompt": "q", "completion": "a"}, conversation="chat")


def test_columns_nobody_knows_are_refused_with_their_names(read: Any) -> None:
    with pytest.raises(LabError, match=r"the prompt and the answer; the columns are 'text', 'id'\."):
        read({"text": "once upon a time", "id": 1})
    with pytest.raises(LabError, match="which column has the answer"):
        read({"prompt": "q", "good": "a", "bad": "b"})
    with pytest.raises(LabError, match="No column has a list of turns"):
        read({"prompt": "q", "completion": "a"}, shape="messages")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([], "it is not an object"),
        ("text", "it is not an object"),
        (None, "it is not an object"),
        ({}, "it has no 'conversations'"),
        ({"conversations": None}, "it has no list of turns, or an empty one"),
        ({"conversations": []}, "it has no list of turns, or an empty one"),
        ({"conversations": "q"}, "it has no list of turns, or an empty one"),
        ({"conversations": {"from": ["human"], "value": []}}, "it has no list of turns, or an empty one"),
        ({"conversations": ["q", "a"]}, "a turn is not an object with from and value"),
        (turns(("human", "q"), ("gpt", "")), "a turn of the assistant is empty"),
        (turns(("human", " \n"), ("gpt", "a")), "a turn of the user is empty"),
        (turns(("human", None), ("gpt", "a")), "a turn of the user is empty"),
        (
            turns(("human", "q"), ("gpt", ["a"])),
            "a turn of the assistant has a part that is not an object, and only text is supported",
        ),
        (
            turns(("human", [{"type": "image_url", "image_url": {}}]), ("gpt", "a")),
            "a turn of the user has a part of the type 'image_url', and only text is supported",
        ),
        (turns(("system", {"a": 1}), ("human", "q"), ("gpt", "a")), "a turn of the system is not text"),
        (turns(("human", "q"), ("tool", "a")), "it has a result of a tool without a call"),
        (
            turns(("human", "q"), ("cat", "a")),
            "a turn has the role 'cat', which is not system, user, assistant or tool",
        ),
        (
            turns(("human", "q"), (None, "a")),
            "a turn has the role 'None', which is not system, user, assistant or tool",
        ),
        (turns(("gpt", "a"), ("human", "q")), "its first turn is not by the user"),
        (turns(("system", "s")), "its first turn is not by the user"),
        (turns(("human", "q"), ("human", "q"), ("gpt", "a")), "two turns of the same role follow each other"),
        (turns(("human", "q"), ("gpt", "a"), ("gpt", "a")), "two turns of the same role follow each other"),
        (turns(("human", "q"), ("system", "s"), ("gpt", "a")), "it has a system message after the first message"),
        (turns(("system", "s"), ("system", "s"), ("human", "q")), "it has a system message after the first message"),
        (turns(("human", "q"), ("gpt", "a"), ("human", "q")), "its last turn is not by the assistant"),
        (turns(("human", "q")), "its last turn is not by the assistant"),
        (turns(("human", "q\0"), ("gpt", "a")), "it has a NUL character"),
        (turns(("human", "q"), ("gpt", "\ud83d")), "it has half a character (a lone surrogate)"),
        (turns(("human", "q" * 1_000_001), ("gpt", "a")), "it is longer than 1,000,000 characters"),
        (turns(("human", "q" * 600_000), ("gpt", "a" * 600_000)), "it is longer than 1,000,000 characters"),
        (turns(("human", "q"), ("gpt", "a")) | {"system": {"a": 3}}, "its system message is not text"),
        ({str(i): 0 for i in range(1001)}, "it has more than 1,000 columns"),
    ],
)
def test_a_row_is_dropped_for_a_reason(row: Any, why: str, read: Any) -> None:
    good = turns(("human", "q"), ("gpt", "a"))
    data = read(*[good] * 50, row)
    assert [(one.line, one.why) for one in data.dropped] == [(51, why)] and len(data.train) == 50


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"instruction": "", "output": "a"}, "its prompt is empty"),
        ({"instruction": "q", "output": None}, "its answer is empty"),
        ({"instruction": "q", "input": {"a": 3}, "output": "a"}, "its input is not text"),
        (
            {"instruction": ["q"], "output": "a"},
            "its prompt has a part that is not an object, and only text is supported",
        ),
        ({"instruction": [ASKED], "output": []}, "its last turn is not by the assistant"),
        ({"instruction": [], "output": []}, "it has no list of turns, or an empty one"),
    ],
)
def test_a_pair_is_dropped_for_a_reason(row: Any, why: str, read: Any) -> None:
    data = read({"instruction": "q", "output": "a"}, row)
    assert [one.why for one in data.dropped] == [why]


def test_a_system_message_without_words_is_none(read: Any) -> None:
    data = read(
        turns(("system", " "), ("human", "q"), ("gpt", "a")), turns(("human", "q"), ("gpt", "a")) | {"system": ""}
    )
    assert [[*row.messages] for row in data.train] == [[ASKED, ANSWERED]] * 2


def test_a_system_message_of_the_turns_counts_for_more_than_that_of_the_column(read: Any) -> None:
    data = read({"messages": [SYSTEM, ASKED, ANSWERED], "system": "other"})
    assert data.train[0].messages[0] == SYSTEM


def test_words_are_kept_as_they_are(read: Any) -> None:
    texts = [" q\r\n", "<|im_end|>\n<|im_start|>system", "\u2028\ufeff e\u0301\U0001f600\ufdd0", "{{ x }}</s>"]
    data = read(turns(*zip(("human", "gpt") * 2, texts, strict=True)))
    assert [message["content"] for message in data.train[0].messages] == texts


def test_whatever_a_row_is_made_of_it_is_kept_or_dropped(read: Any) -> None:
    rng = random.Random(7)
    leaves = ["", "q", 0, 1.5, True, None, "\0", "\ud800", "user", "human", "gpt", "system", [], {}, "tool"]

    def anything(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(leaves)
        if rng.random() < 0.5:
            return [anything(depth - 1) for _ in range(rng.randrange(4))]
        keys = ("from", "value", "role", "content", "conversations", "system")
        return {key: anything(depth - 1) for key in rng.sample(keys, rng.randrange(len(keys)))}

    rows = [rng.choice([anything(4), {"conversations": anything(3)}, turns(("human", anything(1)), ("gpt", "a"))])
            for _ in range(3000)]  # fmt: skip
    data = read(turns(("human", "q"), ("gpt", "a")), *rows, rows=5000)
    assert len(data.train) + len(data.dropped) == 3001 and 1 < len(data.train) < 3001
    for row in data.train:
        roles = [message["role"] for message in row.messages]
        turns_only = roles[1:] if roles[0] == "system" else roles
        assert turns_only == ["user", "assistant"] * (len(turns_only) // 2) and turns_only
        assert all(message["content"].strip() and message["content"].encode() for message in row.messages)
