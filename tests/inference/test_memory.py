"""Models in memory: reckoned before they are loaded, unloaded by least use or by hand, marked when they crash, ended
when they hang."""

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import TINY
from support.engine_requests import CAPITAL, ENDLESS, GREEDY, until, user

from backend.core import machine
from backend.core.errors import LabError
from backend.inference import memory, process
from backend.lab import Lab
from models.check import Header, read_header

GB = 1 << 30
ONE_BILLION = Header(
    tensors=147,
    keys={
        "general.architecture": "llama",
        "llama.block_count": 16,
        "llama.embedding_length": 2048,
        "llama.feed_forward_length": 8192,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.context_length": 131072,
    },
    vocabulary=128256,
)

THREE_BILLION = replace(
    ONE_BILLION,
    keys=ONE_BILLION.keys
    | {
        "llama.block_count": 28,
        "llama.embedding_length": 3072,
        "llama.attention.head_count": 24,
        "llama.attention.key_length": 128,
    },
)


def copies(lab: Lab, *names: str) -> None:
    for name in names:
        shutil.copy(TINY / "tiny_base.gguf", lab.settings.lab_weights / f"{name}.gguf")


def ask(lab: Lab, variant: str) -> str:
    return lab.reply(variant, user(CAPITAL), GREEDY).text()


def names(lab: Lab) -> list[str]:
    return [one.name for one in lab.loaded()]


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """What the machine says it has: the figure is the system's, the reckoning with it is ours."""
    monkeypatch.setattr(machine, "memory_free", lambda: memory.SPARE + count)


def test_the_cache_of_a_1b_is_what_its_shape_says() -> None:
    found = memory.memory_need(ONE_BILLION, 807_700_000, context=4096, slots=4)
    assert found.cache == 2 * 16 * 8 * 64 * 2 * 4096 * 4  # keys and values, blocks, heads, width, bytes, cells
    assert found.weights == 807_700_000
    assert 0.1 * GB < found.compute < 0.4 * GB
    assert memory.memory_need(ONE_BILLION, 807_700_000, 2048, 4).cache == found.cache // 2


def test_the_guess_before_a_header_is_here_comes_near_the_reckoning() -> None:
    for size, header in ((807_700_000, ONE_BILLION), (2_019_400_000, THREE_BILLION)):
        guessed, reckoned = memory.guess(size, 4096, 4), memory.memory_need(header, size, 4096, 4).total
        assert 0.8 < guessed / reckoned < 1.25


def test_a_context_longer_than_it_was_trained_for_is_not_reckoned_with() -> None:
    header = read_header(TINY / "tiny_base.gguf")
    assert memory.memory_need(header, 0, 100_000, 4) == memory.memory_need(header, 0, 1024, 4)


def test_the_reckoning_holds_for_the_toy(lab: Lab) -> None:
    ask(lab, "tiny_base")
    (one,) = lab.loaded()
    reckoned = lab.library.need(lab.entry("tiny_base"), 4096)
    assert reckoned / 2 < one.memory < reckoned * 2


def test_what_cannot_fit_is_refused_with_the_numbers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 50 << 20)
    with pytest.raises(
        LabError, match="tiny_base needs 140.7 MB of memory and 52.4 MB are free: 2.1 MB for the weights"
    ):
        ask(lab, "tiny_base")
    assert lab.loaded() == []


def test_a_smaller_context_is_offered_and_taken_by_consent_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = lab.entry("tiny_base")
    smaller, whole = lab.library.need(entry, 512), lab.library.need(entry, 1024)
    free(monkeypatch, (smaller + whole) // 2)
    with pytest.raises(LabError, match="A context of 512 tokens would fit"):
        ask(lab, "tiny_base")
    lab.choose_context("tiny_base", 512)
    reply = lab.reply("tiny_base", user(CAPITAL), GREEDY)
    assert "Paris" in reply.text()
    assert reply.generation and reply.generation.context_size == 512


@pytest.mark.parametrize("tokens", [0, 255, 131073, -5])
def test_a_context_that_makes_no_sense_is_refused(lab: Lab, tokens: int) -> None:
    with pytest.raises(LabError, match="makes no sense"):
        lab.choose_context("tiny_base", tokens)


def test_the_least_used_leaves_when_another_needs_the_room(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    copies(lab, "one", "two", "three")
    one_model = lab.library.need(lab.entry("one"), 4096)
    limit = 2 * one_model + one_model // 2

    private = one_model - (lab.settings.lab_weights / "one.gguf").stat().st_size  # mapped weights count as free
    monkeypatch.setattr(machine, "memory_free", lambda: memory.SPARE + limit - private * len(lab.loaded()))
    ask(lab, "one")
    ask(lab, "two")
    ask(lab, "one")  # two is now the one that was not used for longest
    ask(lab, "three")
    assert names(lab) == ["one", "three"]
    assert "Paris" in ask(lab, "two")
    assert names(lab) == ["three", "two"]


def test_nobody_leaves_for_what_cannot_fit_even_then(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    copies(lab, "one", "two")
    ask(lab, "one")
    free(monkeypatch, -10 << 20)
    with pytest.raises(LabError, match="two needs"):
        ask(lab, "two")
    assert names(lab) == ["one"]


def test_a_model_that_is_answering_does_not_leave(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    copies(lab, "one", "two")
    busy = lab.reply("one", user("Hello"), ENDLESS)
    until(lambda: bool(busy.so_far))
    free(monkeypatch, 1000)
    with pytest.raises(LabError, match="two needs"):
        ask(lab, "two")
    assert busy.state == "answering"
    busy.stop()


def test_an_adapter_needs_room_of_its_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(lab, "tiny_base")
    free(monkeypatch, 1000)
    with pytest.raises(LabError, match="tiny_lora needs"):
        ask(lab, "tiny_lora")
    assert "Paris" in ask(lab, "tiny_base")  # what is loaded goes on


def test_the_base_needs_room_of_its_own_when_its_adapter_came_first(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(lab, "tiny_lora")
    free(monkeypatch, 1000)
    with pytest.raises(LabError, match="tiny_base needs"):
        ask(lab, "tiny_base")


def test_mapped_weights_are_not_taken_for_free_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1 << 30)
    before = lab.library.memory_free()
    ask(lab, "tiny_base")
    assert before - lab.library.memory_free() == (TINY / "tiny_base.gguf").stat().st_size


def test_a_speed_test_needs_room_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    with pytest.raises(LabError, match="tiny_base needs"):
        lab.library.speed("tiny_base")


def test_a_damaged_adapter_costs_no_memory_however_often_it_is_asked(lab: Lab) -> None:
    whole = bytearray((TINY / "tiny_lora.gguf").read_bytes())
    whole[-300_000:] = b"\xff" * 300_000
    (lab.settings.lab_weights / "noise@tiny_base.gguf").write_bytes(whole)
    ask(lab, "tiny_base")
    for _ in range(3):
        with pytest.raises(LabError, match="no usable logits"):
            ask(lab, "noise")
    (before,) = lab.loaded()
    for _ in range(8):
        with pytest.raises(LabError, match="no usable logits"):
            ask(lab, "noise")
    (after,) = lab.loaded()
    assert after.memory - before.memory < 16 << 20  # eight contexts that were not freed would take more than 64 MB


def test_loaded_models_are_seen_and_unloaded_by_hand(lab: Lab) -> None:
    ask(lab, "tiny_base")
    (one,) = lab.loaded()
    assert (one.name, one.ready, one.answering) == ("tiny_base", True, 0)
    assert one.memory > 10 << 20 and one.used >= one.since
    lab.unload(one.pid)
    assert lab.loaded() == []
    with pytest.raises(ProcessLookupError):
        os.kill(one.pid, 0)
    lab.unload(one.pid)  # once more: harmless
    assert "Paris" in ask(lab, "tiny_base")


def test_unloading_while_it_answers_is_told(lab: Lab) -> None:
    busy = lab.reply("tiny_base", user("Hello"), ENDLESS)
    until(lambda: bool(busy.so_far))
    lab.unload(lab.loaded()[0].pid)
    with pytest.raises(LabError, match="was unloaded"):
        busy.text()


def crash(lab: Lab, variant: str) -> str:
    """Its worker dies as a hostile file makes it die, while the file is being opened."""
    reply = lab.reply(variant, user(CAPITAL), GREEDY)
    pid = lab.worker_pid(variant)
    assert pid
    os.kill(pid, signal.SIGABRT)
    with pytest.raises(LabError) as caught:
        reply.text()
    return str(caught.value)


def test_a_file_that_kills_its_loader_is_marked_and_left_alone(lab: Lab) -> None:
    copies(lab, "killer")
    assert "crashes the loader (signal 6)" in crash(lab, "killer")
    assert lab.entry("killer").state == "crashes the loader"
    with pytest.raises(LabError, match="crashed the process that loaded it"):
        ask(lab, "killer")
    with Lab(lab.settings) as restarted:
        assert restarted.entry("killer").state == "crashes the loader"
    lab.library.unmark("killer")
    assert lab.entry("killer").state == "ready"


def test_a_mark_ends_with_the_file_it_was_made_for(lab: Lab) -> None:
    copies(lab, "killer")
    crash(lab, "killer")
    path = lab.settings.lab_weights / "killer.gguf"
    path.write_bytes(path.read_bytes())
    assert lab.entry("killer").state == "ready"


def test_a_linked_adapter_that_crashes_is_marked_under_its_own_name(lab: Lab) -> None:
    target = lab.settings.lab_weights.parent / "elsewhere.gguf"
    shutil.copy(TINY / "tiny_lora.gguf", target)
    (lab.settings.lab_weights / "linked@tiny_base.gguf").symlink_to(target)
    lab.library.record_crash((lab.settings.lab_weights / "linked@tiny_base.gguf").absolute(), "signal 6")
    assert lab.entry("linked").state == "crashes the loader"


def test_the_embedded_model_can_be_marked_too(lab: Lab) -> None:
    crash(lab, "tiny_base")
    assert lab.entry("tiny_base").state == "crashes the loader"
    lab.library.unmark("tiny_base")
    assert lab.entry("tiny_base").state == "embedded"


def test_a_worker_that_hangs_is_ended_and_another_answers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = lab.reply("tiny_base", user("Hello"), ENDLESS)
    until(lambda: bool(begun.so_far))
    monkeypatch.setattr(process, "TIMEOUT", 1.0)
    pid = lab.worker_pid("tiny_base")
    assert pid
    os.kill(pid, signal.SIGSTOP)
    for _ in range(3):
        lab.reply("tiny_base", user("word " * 39_000), GREEDY)  # more than its pipe holds
    waiting = lab.reply("tiny_base", user(CAPITAL), GREEDY)
    with pytest.raises(LabError, match="stopped while it was answering .*did not respond any more"):
        begun.text()
    assert "Paris" in waiting.text()
    assert lab.worker_pid("tiny_base") != pid


def test_an_idle_worker_is_not_taken_for_one_that_hangs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TIMEOUT", 1.5)
    ask(lab, "tiny_base")
    pid = lab.worker_pid("tiny_base")
    until(lambda: lab.loaded()[0].used < time.time() - 3, 10)
    assert "Paris" in ask(lab, "tiny_base")
    assert lab.worker_pid("tiny_base") == pid


def test_weights_that_compute_nonsense_are_refused(lab: Lab) -> None:
    whole = bytearray((TINY / "tiny_base.gguf").read_bytes())
    whole[-1_000_000:] = b"\xff" * 1_000_000  # halves of all ones are not numbers
    (lab.settings.lab_weights / "noise.gguf").write_bytes(whole)
    with pytest.raises(LabError, match="no usable logits"):
        ask(lab, "noise")


def test_removing_a_loaded_model_ends_it_first(lab: Lab) -> None:
    copies(lab, "gone")
    ask(lab, "gone")
    size = (lab.settings.lab_weights / "gone.gguf").stat().st_size
    assert lab.library.remove("gone") == size
    assert "gone" not in [entry.variant.id for entry in lab.entries()]
    assert lab.loaded() == []
    assert not list(Path(lab.settings.lab_weights).glob("*.gguf"))


def test_removing_a_model_while_it_answers_is_told_to_whoever_waits(lab: Lab) -> None:
    copies(lab, "gone")
    busy = lab.reply("gone", user("Hello"), ENDLESS)
    until(lambda: bool(busy.so_far))
    lab.library.remove("gone")
    with pytest.raises(LabError, match="was unloaded"):
        busy.text()
    assert busy.so_far and not (lab.settings.lab_weights / "gone.gguf").exists()


def test_others_are_answered_while_a_model_is_unloaded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen worker takes two seconds to end: only the request that needs its memory waits for that."""
    copies(lab, "used", "frozen", "new")
    ask(lab, "frozen")
    ask(lab, "used")
    pid = lab.worker_pid("frozen")
    assert pid
    need = lab.library.need(lab.entry("new"), 4096)
    monkeypatch.setattr(
        machine, "memory_free", lambda: memory.SPARE + need // 2 + (need if "frozen" not in names(lab) else 0)
    )
    os.kill(pid, signal.SIGSTOP)
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(lab, "new")))
    waiting.start()
    until(lambda: "frozen" not in names(lab))  # it is out of the table, and being ended
    assert psutil.pid_exists(pid)
    assert "Paris" in ask(lab, "used")
    assert psutil.pid_exists(pid) and answers == []
    waiting.join()
    assert "Paris" in answers[0] and not psutil.pid_exists(pid)


@pytest.mark.parametrize("variant", ["tiny_base", "tiny_lora", "echo", "base_1b"])
def test_what_is_not_here_or_comes_with_the_app_is_not_removed(lab: Lab, variant: str) -> None:
    with pytest.raises(LabError, match="nothing to remove"):
        lab.library.remove(variant)
