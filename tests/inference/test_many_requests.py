"""Many requests at once, and many one after another."""

import threading

import psutil
import pytest
from support.engine_requests import GREEDY, user

from backend.core.settings import Settings
from backend.inference.reply import Reply, watch
from backend.inference.sampling import Sampling
from backend.lab import Lab

SHORT = Sampling(temperature=0, max_tokens=2)


def test_of_twenty_two_visitors_twenty_are_answered_and_two_are_told_that_the_queue_is_full(settings: Settings) -> None:
    with Lab(settings.model_copy(update={"lab_slots": 4, "lab_waiting": 16})) as lab:
        lab.reply("tiny_base", user("Hello"), SHORT).text()
        long = GREEDY.model_copy(update={"max_tokens": 60, "grammar": 'root ::= "la " root'})
        replies = [lab.reply("tiny_base", user(f"Hello {n}"), long, visitor=(f"1.1.1.{n}", "s")) for n in range(22)]
        places: dict[int, list[int]] = {}
        for _ in watch(replies, interval=lambda: 0.002):
            for number, reply in enumerate(replies):
                if reply.state == "waiting":
                    places.setdefault(number, []).append(reply.place)
        assert sum(bool(reply.generation) for reply in replies) == 20
        refused = [reply.error for reply in replies if not reply.generation]
        assert refused == ["16 requests are already waiting here. Try again in a moment."] * 2
        assert all(seen == sorted(seen, reverse=True) for seen in places.values()), places


def test_a_request_that_is_stopped_before_it_was_read_is_ended(lab: Lab) -> None:
    lab.reply("tiny_base", user("Hello"), SHORT).text()
    for _ in range(20):
        reply = lab.reply("tiny_base", user("Hello"), GREEDY)
        reply.stop()
        reply.text()
        assert reply.generation and reply.generation.end in ("stopped", "stop", "length")


@pytest.mark.long
def test_ten_thousand_requests_leave_nothing_behind(settings: Settings) -> None:
    with Lab(settings.model_copy(update={"lab_waiting": 64, "lab_context": 256})) as lab:

        def ask(first: int, count: int) -> None:
            for number in range(first, first + count, 50):
                several: list[Reply] = [
                    lab.reply("tiny_base", user(f"What is {n} plus 1?"), SHORT) for n in range(number, number + 50)
                ]
                assert all(reply.text() is not None for reply in several)

        ask(0, 1000)
        worker, own = psutil.Process(lab.worker_pid("tiny_base")), psutil.Process()
        before = (worker.num_fds(), worker.num_threads(), own.num_fds(), threading.active_count())
        memory = (worker.memory_info().rss, own.memory_info().rss)
        ask(1000, 9000)
        assert (worker.num_fds(), worker.num_threads(), own.num_fds(), threading.active_count()) == before
        grown = (worker.memory_info().rss - memory[0], own.memory_info().rss - memory[1])
        assert max(grown) < 10 << 20, grown
