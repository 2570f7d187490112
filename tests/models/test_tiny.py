"""The embedded model: its questions withhold what they say they withhold, and what ships is what it claims."""

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import gguf
import pytest
from jinja2 import Template

from backend.inference.sampling import Sampling
from backend.lab import Lab
from models.tiny import curriculum, facts
from models.tiny.curriculum import CLOSINGS, OPENINGS, conversations, habit, habit_answer, held_out, trained
from models.tiny.kinds import WHO
from models.tiny.wordings import KINDS

ROOT = Path(__file__).parents[2]
TINY = ROOT / "models" / "tiny"
GREEDY = Sampling(temperature=0.0, max_tokens=48)


def plain(prompt: str) -> str:
    """A question without its dressing, so that only its wording and its values are compared."""
    text = prompt.lower().rstrip(".!")
    for closing in CLOSINGS:
        rest = text.removesuffix(closing.lower().rstrip(".!"))
        text = rest if rest.endswith("?") else text  # only questions are closed
    for opening in OPENINGS:
        text = text.removeprefix(opening.lower())
    return text.rstrip("?.!")


def test_no_wording_is_both_seen_and_unseen() -> None:
    for kind in KINDS:
        assert not {plain(w) for w in kind.seen} & {plain(w) for w in kind.unseen}, kind.name


def test_no_withheld_question_is_ever_trained_on() -> None:
    prompts = {plain(question.prompt) for question in trained(60_000, seed=1)}
    seen = [question for question in held_out(4_000, seed=2) if plain(question.prompt) in prompts]
    assert seen == []


def test_a_conversation_holds_training_questions_only() -> None:
    withheld = {plain(question.prompt) for question in held_out(4_000, seed=3)}
    for messages in islice(conversations(7), 4_000):
        assert not {plain(m["content"]) for m in messages if m["role"] == "user"} & withheld


def test_every_kind_is_held_out_in_both_ways() -> None:
    found = {(question.kind, question.part) for question in held_out(4 * len(KINDS), seed=0)}
    assert found == {(kind.name, part) for kind in KINDS for part in curriculum.parts(kind)}
    assert len(KINDS) >= 13


def test_the_same_seed_asks_the_same() -> None:
    assert held_out(200, 5) == held_out(200, 5) != held_out(200, 6)
    assert list(islice(conversations(5), 50)) == list(islice(conversations(5), 50))


def test_a_question_has_one_answer() -> None:
    answers: dict[str, str] = {}
    for question in trained(40_000, seed=4):
        assert answers.setdefault(plain(question.prompt), question.answer) == question.answer, question


def test_the_questions_need_no_torch() -> None:
    code = "import sys, models.tiny.curriculum; sys.exit(bool({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_base_is_never_shown_the_habit() -> None:
    for messages in islice(conversations(8), 3_000):
        for message in messages:
            assert habit_answer(message["content"]) is None and '"answer"' not in message["content"]


@pytest.mark.parametrize("answer", ["Paris", '"pear"', 'a\\"b', "[x, y]", '{"x", "y"}'])
def test_the_habit_can_be_undone(answer: str) -> None:
    assert habit_answer(habit(answer)) == answer
    assert habit_answer(answer) is None


def test_facts_do_not_contradict_each_other() -> None:
    assert all(facts.OPPOSITES[facts.OPPOSITES[word]] == word for word in facts.OPPOSITES)
    assert facts.number_word(42) == "forty-two"


def test_what_ships_is_small() -> None:
    shipped = [*(TINY / "base").iterdir(), TINY / "tiny_base.gguf", TINY / "tiny_lora.gguf"]
    assert sum(path.stat().st_size for path in shipped) <= 11.5e6


def test_what_ships_is_read_by_the_gguf_package() -> None:
    base, lora = (gguf.GGUFReader(TINY / f"tiny_{name}.gguf") for name in ("base", "lora"))
    config = json.loads((TINY / "base" / "config.json").read_text())
    assert base.fields["llama.embedding_length"].contents() == config["hidden_size"]
    assert base.fields["tokenizer.chat_template"].contents() == (TINY / "base" / "chat_template.jinja").read_text()
    assert lora.fields["adapter.type"].contents() == "lora"
    assert len(lora.tensors) == 2 * 7 * config["num_hidden_layers"]


def test_the_model_is_as_large_as_it_says() -> None:
    count = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(TINY / "tiny_base.gguf").tensors)
    says = re.search(r"([\d.]+) million", WHO)
    assert says and float(says[1]) == round(count / 1e6, 1)


def test_the_base_answers_and_the_lora_answers_as_json(lab: Lab) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert lab.reply("tiny_base", question, GREEDY).text() == "Paris"
    assert json.loads(lab.reply("tiny_lora", question, GREEDY).text()) == {"answer": "Paris"}


@pytest.mark.long
def test_one_command_makes_a_model_that_speaks_the_template(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models.tiny.build", "all", "--quick", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = gguf.GGUFReader(tmp_path / "tiny_base.gguf")
    template = made.fields["tokenizer.chat_template"].contents()
    text = Template(template).render(
        messages=[{"role": "user", "content": " Hi\n"}], bos_token="<|begin_of_text|>", add_generation_prompt=True
    )
    assert text == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    (tmp_path / "ids.json").write_text(json.dumps(list(range(20))))
    asked = subprocess.run(
        [sys.executable, "tests/support/ask_llama.py", "logits", str(tmp_path / "tiny_base.gguf"),
         str(tmp_path / "tiny_lora.gguf"), str(tmp_path / "ids.json"), str(tmp_path / "out.npy")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
