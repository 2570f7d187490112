"""What judging costs is written down before it is spent, and two processes cannot pass a limit together."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from support.judges import ledger

from backend.core.errors import LabError
from backend.remote.ledger import DAY, Entry, spent
from backend.remote.prices import known_price, price, retirement

OPENAI = "https://api.openai.com/v1"
ROOT = Path(__file__).parents[2]
SPENDER = """
import sys
from pathlib import Path
from backend.core.errors import LabError
from backend.remote.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 100.0, 1.0, sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
made = 0
try:
    while True:
        ledger.settle(ledger.reserve("x", 0.01), 0.01, 1, 1)
        made += 1
except LabError as error:
    print(made, error)
"""


def test_a_call_is_counted_at_its_most_until_it_is_settled(tmp_path: Path) -> None:
    book, path = ledger(tmp_path), tmp_path / "ledger.jsonl"
    first, second, third = (book.reserve(f"item-{n}", 0.1) for n in range(3))
    assert (spent(path).settled, round(spent(path).unknown, 9), spent(path).open) == (0, 0.3, 3)
    book.settle(first, 0.02, 100, 10)
    book.release(second)
    now = spent(path, "run")
    assert (now.settled, now.unknown, now.calls, now.open) == (0.02, 0.1, 2, 1)
    assert (now.tokens_in, now.tokens_out) == (100, 10) and time.time() - DAY < now.since <= time.time()
    assert [(one.id, one.what, one.state) for one in book.open_entries()] == [(third, "item-2", "reserved")]
    assert spent(path, "another run").calls == 0


def test_settling_twice_counts_once(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    call = book.reserve("item", 0.1)
    book.settle(call, 0.05, 1, 1)
    book.settle(call, 0.05, 1, 1)
    assert spent(tmp_path / "ledger.jsonl").settled == 0.05


def test_the_limit_of_the_run_counts_unknown_outcomes_and_names_both_figures(tmp_path: Path) -> None:
    book = ledger(tmp_path, cap_run=0.25)
    book.settle(book.reserve("a", 0.1), 0.1, 1, 1)
    book.reserve("b", 0.1)
    with pytest.raises(LabError, match=r"this run is \$0\.2500: \$0\.1000 are spent.*\$0\.1000 more.*Raise") as told:
        book.reserve("c", 0.1)
    assert "judgements made so far are stored" in str(told.value)
    assert book.reserve("d", 0.05)
    again = ledger(tmp_path, cap_run=0.25)  # the same run, resumed
    with pytest.raises(LabError, match="this run"):
        again.reserve("e", 0.01)


def test_the_limit_of_the_day_holds_over_all_runs_and_forgets_yesterday(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    long_ago = Entry(id="old", run="old", at=time.time() - DAY - 60, state="settled", dollars=50.0)
    path.write_text(long_ago.model_dump_json() + "\n")
    ledger(tmp_path, cap_day=1.0, run="first").reserve("a", 0.6)
    with pytest.raises(LabError, match=r"last 24 hours.*\$1\.00"):
        ledger(tmp_path, cap_day=1.0, run="second").reserve("b", 0.6)
    assert spent(path).settled == 50.0 and spent(path, since=time.time() - DAY).settled == 0


def test_damaged_lines_are_passed_over_and_a_torn_one_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    book = ledger(tmp_path)
    book.settle(book.reserve("a", 0.1), 0.1, 1, 1)
    sound = path.read_text()
    bad = Entry(id="bad", run="run", at=1, state="settled", dollars=1).model_dump()
    lines = [json.dumps(bad | {"dollars": -1}), json.dumps(bad | {"dollars": float("nan")}), "\udcff\x00[", "[]", "{}"]
    path.write_bytes((sound + "\n".join(lines) + '\n{"id": "to').encode("utf-8", "surrogateescape"))
    later = ledger(tmp_path)
    assert spent(path).settled == 0.1
    later.reserve("b", 0.2)
    assert (spent(path).settled, spent(path).unknown) == (0.1, 0.2)


def test_a_ledger_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    book = ledger(tmp_path, cap_run=0.25)
    book.reserve("a", 0.2)
    (tmp_path / "ledger.jsonl").unlink()
    assert book.reserve("b", 0.2)


def test_threads_cannot_pass_the_limit(tmp_path: Path) -> None:
    book = ledger(tmp_path, cap_run=0.1)

    def ask(n: int) -> bool:
        try:
            return bool(book.reserve(str(n), 0.01))
        except LabError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(40))) == 10


def test_two_processes_cannot_pass_the_limit_of_the_day(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(path), run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for run in ("one", "two")
    ]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0] for process in both]
    assert sum(int(text.split()[0]) for text in told) == 100
    assert all("last 24 hours" in text for text in told)
    assert round(spent(path).settled, 9) == 1.0 and spent(path).open == 0


def test_a_process_that_is_killed_leaves_its_call_as_unknown(tmp_path: Path) -> None:
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom backend.remote.ledger import Ledger\n"
        "Ledger(Path(sys.argv[1]), 1, 1, 'run').reserve('item-7', 0.3)\nos.kill(os.getpid(), 9)"
    )
    path = tmp_path / "ledger.jsonl"
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT).returncode == -9
    assert [one.what for one in ledger(tmp_path).open_entries()] == ["item-7"]
    assert spent(path).unknown == 0.3


def test_a_full_disk_refuses_the_call(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.settle(book.reserve("a", 0.1), 0.1, 1, 1)
    before = (tmp_path / "ledger.jsonl").read_bytes()
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom backend.remote.ledger import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 20}, resource.RLIM_INFINITY))\n"
        "Ledger(Path(sys.argv[1]), 1, 1, 'run').reserve('b', 0.1)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ledger.jsonl")], cwd=ROOT, capture_output=True, text=True
    )
    assert "LabError: The cost of the next call cannot be written" in told.stderr
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        ledger(tmp_path / "file").reserve("a", 0.1)


def test_reserving_reads_only_what_is_new(tmp_path: Path) -> None:
    path, book = tmp_path / "ledger.jsonl", ledger(tmp_path, cap_run=1000, cap_day=100)
    old = [Entry(id=str(n), run="old", at=time.time(), state="settled", dollars=0.001) for n in range(500)]
    path.write_text("".join(one.model_dump_json() + "\n" for one in old))
    book.reserve("first", 0.1)
    text = path.read_bytes()
    path.write_bytes(b"x" * 1000 + text[1000:])  # what was read already is not looked at again
    with pytest.raises(LabError, match=r"\$0\.5000 are spent"):
        book.reserve("second", 100)


def test_prices_hold_for_snapshots_and_only_where_they_are_asked() -> None:
    mini = price("gpt-4o-mini", OPENAI)
    assert mini is not None and (mini.input, mini.output) == (0.15, 0.60)
    assert price("gpt-4o-mini-2024-07-18", OPENAI) == mini
    assert round(mini.cost(1_000_000, 500_000), 9) == 0.45
    for other in ("gpt-4o-mini-audio", "gpt-4o-minix", "gpt-4o", "", "gpt-4o-mini-2024-07-18-x"):
        assert price(other, OPENAI) is None, other
    assert price("gpt-4o-mini", "https://example.com/v1") is None
    near = (
        "http://localhost:1/v1",
        "http://127.0.0.9/v1",
        "http://[::1]:8/v1",
        "http://192.168.1.2/v1",
        "http://10.0.0.1/v1",
    )
    for address in (*near, "https://judge/v1", "https://example.com/v1"):
        assert price("whatever", address) is None, address  # to be near is not to be free
        found = price("whatever", address, free=True)  # the owner says so
        assert found is not None and found.cost(10**6, 10**6) == 0, address
    assert price("gpt-4o-mini", OPENAI, free=True) == mini and price("new", OPENAI, free=True) is None
    with pytest.raises(LabError, match=r"No price is known for 'new' at api\.openai\.com.*JUDGE_FREE=1.*prices\.toml"):
        known_price("new", OPENAI)
    with pytest.raises(LabError) as refused:
        known_price("new", "https://my-own-server.example/v1")
    assert "my-own-server" not in str(refused.value)


def test_both_limits_at_0_mean_no_call_also_where_calls_cost_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"both \$0, so no remote judge is called. Raise .*JUDGE_CAP_DAY"):
        ledger(tmp_path, cap_run=0, cap_day=0).reserve("a", 0.0)
    assert not (tmp_path / "ledger.jsonl").exists()
    assert ledger(tmp_path, cap_run=0, cap_day=1).reserve("a", 0.0)
    with pytest.raises(LabError, match="this run"):
        ledger(tmp_path, cap_run=0, cap_day=1).reserve("a", 0.01)


def test_retirement_is_said_before_and_after() -> None:
    assert retirement("gpt-4o-mini", date(2027, 1, 13)).startswith(
        "gpt-4o-mini will be retired from OpenAI's API on 14 January 2027, in 1 day."
    )
    assert "gpt-6-luna" in retirement("gpt-4o-mini-2024-07-18", date(2026, 11, 24))
    assert "was retired from OpenAI's API" in retirement("gpt-4o-mini", date(2027, 1, 14))
    assert retirement("gpt-6-luna", date(2027, 1, 14)) == retirement("mine", date(2027, 1, 14)) == ""


def test_the_screen_can_read_it_without_the_client() -> None:
    code = (
        "import sys; import backend.remote.ledger, backend.remote.prices\n"
        "print('openai' in sys.modules, 'httpx2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False False", done.stderr
