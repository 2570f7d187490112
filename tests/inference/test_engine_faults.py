"""What goes wrong around a model costs one request, and a sentence."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from support.engine_requests import CAPITAL, ENDLESS, GREEDY, until, user
from support.gguf_layout import TEXT, miniature

from backend.core.errors import LabError
from backend.core.settings import Settings
from backend.inference.reply import Reply
from backend.lab import Lab


@pytest.mark.parametrize(
    ("text", "words"),
    [("word " * 3000, "context holds 1,024"), ("x" * 1_000_000, "200,000 is the limit"), ("  \n", "empty")],
)
def test_what_cannot_be_answered_is_refused_with_a_sentence(lab: Lab, text: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        lab.reply("tiny_base", user(text), GREEDY).text()
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()


def test_odd_characters_do_no_harm(lab: Lab) -> None:
    for text in ("\ud800 lone", "a\x00b", "\ufdd0\ufdd1", " " * 300, "🦙" * 50 + "?", "\u202eabc"):
        if text.strip():
            lab.reply("tiny_base", user(text), GREEDY).text()


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= [",
        "not a grammar",
        'other ::= "x"',
        "root ::= undefined",
        'root ::= root "a"',
        "root ::= " + "(" * 9000,
    ],
)
def test_a_bad_grammar_costs_one_request(lab: Lab, grammar: str) -> None:
    with pytest.raises(LabError, match="grammar|stopped"):
        lab.reply("tiny_base", user("Hello"), GREEDY.model_copy(update={"grammar": grammar})).text()
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()


def test_a_killed_worker_ends_its_answer_and_comes_back(lab: Lab) -> None:
    reply = lab.reply("tiny_base", user("Hello"), ENDLESS)
    until(lambda: bool(reply.so_far))
    first = lab.worker_pid("tiny_base")
    assert first
    os.kill(first, signal.SIGKILL)
    with pytest.raises(LabError, match="signal 9"):
        reply.text()
    assert reply.so_far.startswith("l")
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()
    assert lab.worker_pid("tiny_base") != first


def test_those_in_line_survive_the_request_that_kills(settings: Settings) -> None:
    with Lab(settings.model_copy(update={"lab_slots": 1})) as lab:
        killer = lab.reply("tiny_base", user("Hello"), ENDLESS)
        until(lambda: bool(killer.so_far))
        waiting = lab.reply("tiny_base", user(CAPITAL), GREEDY)
        until(lambda: waiting.state == "waiting")
        pid = lab.worker_pid("tiny_base")
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert "Paris" in waiting.text()
        with pytest.raises(LabError):
            killer.text()


def test_a_worker_that_keeps_dying_is_not_started_at_once_again(lab: Lab) -> None:
    errors = []
    for _ in range(4):
        with pytest.raises(LabError) as caught:
            lab.reply("echo", user("/crash"), GREEDY).text()
        errors.append(str(caught.value))
    assert "stopped while it was answering" in errors[0]
    assert "not started again for another" in errors[-1]
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()


def test_a_full_line_refuses_the_next(settings: Settings) -> None:
    with Lab(settings.model_copy(update={"lab_slots": 1, "lab_waiting": 1})) as lab:
        replies = [lab.reply("tiny_base", user("Hello"), ENDLESS) for _ in range(3)]
        with pytest.raises(LabError, match="already waiting"):
            replies[2].text()
        for reply in replies:
            reply.stop()


def dropped(lab: Lab, name: str, source: Path) -> None:
    shutil.copy(source, lab.settings.lab_weights / name)


def test_a_dropped_adapter_runs_over_the_base_in_its_name(lab: Lab) -> None:
    dropped(lab, "mine@tiny_base.gguf", TINY / "tiny_lora.gguf")
    assert lab.reply("mine", user(CAPITAL), GREEDY).text().startswith("{")


def test_an_adapter_for_another_base_is_refused(lab: Lab) -> None:
    whole = (TINY / "tiny_lora.gguf").read_bytes()
    name = b"blk.3.ffn_up.weight.lora_"
    assert whole.count(name) == 2
    odd = lab.settings.lab_weights / "odd@tiny_base.gguf"
    odd.write_bytes(whole.replace(name, b"blk.7.ffn_up.weight.lora_"))  # a layer that this base does not have
    with pytest.raises(LabError, match="does not fit"):
        lab.reply("odd", user(CAPITAL), GREEDY).text()
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()


def test_a_cut_adapter_is_refused(lab: Lab) -> None:
    cut = lab.settings.lab_weights / "cut@tiny_base.gguf"
    cut.write_bytes((TINY / "tiny_lora.gguf").read_bytes()[:100_000])
    with pytest.raises(LabError, match="damaged.* incomplete"):
        lab.reply("cut", user(CAPITAL), GREEDY).text()
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()


def test_a_damaged_model_is_a_sentence(lab: Lab) -> None:
    whole = (TINY / "tiny_base.gguf").read_bytes()
    (lab.settings.lab_weights / "half.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabError, match="damaged.* incomplete"):
        lab.reply("half", user("Hello"), GREEDY).text()


def test_closing_the_lab_ends_its_processes(settings: Settings) -> None:
    lab = Lab(settings)
    lab.reply("tiny_base", user("Hello"), GREEDY).text()
    pid = lab.worker_pid("tiny_base")
    assert pid
    lab.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_reply_that_failed_is_over(lab: Lab) -> None:
    reply: Reply = lab.reply("echo", user("/crash"), GREEDY)
    with pytest.raises(LabError):
        reply.text()
    reply.stop()
    assert reply.state == "ended"


def test_an_adapter_whose_header_names_another_shape_is_never_started(lab: Lab) -> None:
    whole = bytearray((TINY / "tiny_lora.gguf").read_bytes())
    key = b"llama.block_count"
    at = whole.index(key) + len(key) + 4  # the value follows the key and its type
    assert whole[at] == 4
    whole[at] = 5
    (lab.settings.lab_weights / "deep@tiny_base.gguf").write_bytes(whole)
    with pytest.raises(LabError, match="another base than tiny_base: block_count 5 is not 4"):
        lab.reply("deep", user(CAPITAL), GREEDY)


def test_a_vocabulary_that_has_no_word_for_it_costs_a_sentence(lab: Lab) -> None:
    model = miniature().set("tokenizer.chat_template", b"{{ messages[0]['content'] }}", TEXT)
    chance = np.random.default_rng(0)
    for row in model.rows:
        row.data = chance.standard_normal(len(row.data) // 4, dtype=np.float32).tobytes()
    (lab.settings.lab_weights / "four_words.gguf").write_bytes(model.lay().bytes())
    with pytest.raises(LabError, match="turns your message into no tokens"):
        lab.reply("four_words", user("zzz"), GREEDY).text()
    assert lab.worker_pid("four_words")


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GLUT = "{{ 'a' * 10000000000 }}{{ messages }}"


@pytest.mark.parametrize("template", [LOOP, GLUT])
def test_a_hostile_template_in_a_file_costs_its_own_requests_only(lab: Lab, template: str) -> None:
    whole = (TINY / "tiny_base.gguf").read_bytes()
    own = (TINY / "base" / "chat_template.jinja").read_bytes()
    assert whole.count(own) == 1
    hostile = template.encode() + b" " * (len(own) - len(template))
    assert len(hostile) == len(own)
    (lab.settings.lab_weights / "hostile.gguf").write_bytes(whole.replace(own, hostile))
    for _ in range(2):
        with pytest.raises(LabError, match="chat template of this model"):
            lab.reply("hostile", user(CAPITAL), GREEDY).text()
    assert lab.worker_pid("hostile")  # it did not take the process with it
    assert "Paris" in lab.reply("tiny_base", user(CAPITAL), GREEDY).text()
