"""Data sets of the Hub, read by the real clients from a double of it: slices, commits, and what a person is told."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from servers.hub import Hub
from servers.hub_answers import TOKEN
from support.workers import environment

ROOT = Path(__file__).parents[2]
READ = """
import json, sys
from backend.data.load import load
from backend.data.dataset import DatasetSpec
from backend.core.errors import LabError
for line in sys.stdin:
    try:
        data = load(DatasetSpec(**json.loads(line)))
        answer = {name: value for name, value in vars(data).items() if name != "spec"}
        for name in ("train", "eval_rows", "dropped"):
            answer[name] = [{**vars(row), "masked": []} for row in answer[name]]
    except LabError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)
"""


def chats(n: int, words: str = "") -> list[dict[str, Any]]:
    """Rows as FineTome has them."""
    return [
        {
            "conversations": [{"from": "human", "value": f"q{i}{words}"}, {"from": "gpt", "value": f"a{i}"}],
            "source": "somewhere",
            "score": 4.5,
        }
        for i in range(n)
    ]


def parquet(rows: list[dict[str, Any]], group: int = 1000) -> bytes:
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), packed, row_group_size=group, compression="none")
    return packed.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(**splits: str) -> bytes:
    named = "".join(f"\n  - split: {split}\n    path: {path}" for split, path in splits.items())
    return f"---\nconfigs:\n- config_name: default\n  data_files:{named}\n---\n".encode()


class HubReader:
    """A process that reads data sets of one Hub, one after the other."""

    def __init__(self, hub: Hub, home: Path, **env: str) -> None:
        self.hub = hub
        home.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", READ],
            cwd=ROOT,
            env=environment(home, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1") | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "log").open("w"),
            text=True,
        )
        self.log = home / "log"

    def put(self, name: str, **files: bytes) -> str:
        """A data set of these files; `__` stands for a slash and `_` before the ending for a dot."""
        commit = ""
        for path, content in files.items():
            folder, _, file = path.rpartition("__")
            stem, _, ending = file.rpartition("_")
            commit = self.hub.add(name, f"{folder and folder + '/'}{stem}.{ending}", content, repo_type="dataset")
        return commit

    def ask(self, name: str, **settings: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        asked = {"source": name, "rows": 5, "held_first": 5, "held_rows": 2} | settings
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, self.log.read_text()
        found: dict[str, Any] = json.loads(answer)
        return found

    def questions(self, name: str, **settings: Any) -> tuple[list[str], list[str]]:
        """First words of the rows to train on and of those held out."""
        found = self.ask(name, **settings)
        assert "refused" not in found, found
        train, held = ([row["messages"][0]["content"] for row in found[split]] for split in ("train", "eval_rows"))
        return train, held

    def refused(self, name: str, **settings: Any) -> str:
        return str(self.ask(name, **settings).get("refused"))

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(20)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubReader]:
    with Hub() as hub:
        reader = HubReader(hub, tmp_path_factory.mktemp("data"))
        yield reader
        reader.close()


@pytest.fixture
def reader(every: HubReader) -> Iterator[HubReader]:
    every.hub.clear()
    yield every
    every.hub.clear()


def asked_for(reader: HubReader) -> int:
    """Bytes of data files that were asked for."""
    ranges = [headers["range"] for _, path, headers in reader.hub.requests("GET", ".parquet") if "range" in headers]
    pairs = [one.removeprefix("bytes=").split("-") for one in ranges]
    return sum(int(last) - int(first) + 1 for first, last in pairs)


def test_rows_and_held_out_rows_come_from_a_pinned_commit(reader: HubReader) -> None:
    commit = reader.put(
        "owner/chats", README_md=card(train="data/train-*"), **{"data__train-0_parquet": parquet(chats(50))}
    )
    found = reader.ask("owner/chats")
    assert [row["messages"][0]["content"] for row in found["train"]] == ["q0", "q1", "q2", "q3", "q4"]
    assert [row["index"] for row in found["eval_rows"]] == [5, 6]
    assert (found["commit"], found["shape"]) == (commit, "sharegpt")
    assert found["columns"] == ["conversations", "source", "score"]
    pages = [path for _, path, _ in reader.hub.requests("", "/resolve/")]
    assert pages and all(commit in path for path in pages)


def test_a_revision_is_read_as_it_was(reader: HubReader) -> None:
    first = reader.put("owner/moving", train_jsonl=lines(chats(9)))
    second = reader.put("owner/moving", train_jsonl=lines(chats(9)[::-1]))
    assert reader.questions("owner/moving", revision=first)[0][0] == "q0"
    assert reader.questions("owner/moving")[0][0] == "q8" and first != second
    assert reader.ask("owner/moving")["commit"] == second


def test_files_of_a_split_are_read_one_after_the_other(reader: HubReader) -> None:
    parts = {f"data__train-{i}_parquet": parquet(chats(10)[3 * i : 3 * i + 3], group=2) for i in range(3)}
    reader.put("owner/parts", **parts, data__test_parquet=parquet(chats(30)[20:]))
    assert reader.questions("owner/parts", first=2, rows=5, held_first=0) == (
        ["q2", "q3", "q4", "q5", "q6"],
        ["q0", "q1"],
    )
    assert reader.questions("owner/parts", split="test", held_rows=0)[0][0] == "q20"


@pytest.mark.parametrize("name", ["train_jsonl", "train_json", "train_csv"])
def test_text_is_streamed(reader: HubReader, name: str) -> None:
    rows = [{"instruction": f"q{i}", "input": "", "output": "a"} for i in range(20)]
    table = "instruction,input,output\n" + "".join(f"q{i},,a\n" for i in range(20))
    reader.put(f"owner/{name}", **{name: table.encode() if name == "train_csv" else lines(rows)})
    found = reader.questions(f"owner/{name}", first=8, held_first=1)
    assert found == (["q8", "q9", "q10", "q11", "q12"], ["q1", "q2"])


def test_a_thousand_rows_do_not_cost_a_hundred_thousand(reader: HubReader) -> None:
    whole = parquet(chats(20_000, words=" and so on" * 300))
    reader.put("owner/long", **{"data__train-0_parquet": whole})
    assert len(whole) > 60_000_000
    for first in (0, 17_000):
        reader.hub.clear()
        assert reader.questions("owner/long", first=first, rows=1000, held_first=first + 1000)[1][0].startswith("q")
        assert 2_000_000 < asked_for(reader) < 20_000_000


def test_a_process_that_has_what_it_wants_ends(reader: HubReader, tmp_path: Path) -> None:
    reader.put("owner/ends", **{"data__train-0_parquet": parquet(chats(20_000, words=" and so on" * 300))})
    other = HubReader(reader.hub, tmp_path / "home")
    assert other.questions("owner/ends")[0][0].startswith("q0")
    other.close()
    assert other.process.returncode == 0 and "Fatal" not in other.log.read_text()


def test_a_subset_is_chosen_and_asked_for(reader: HubReader) -> None:
    subsets = [f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("main", "hard")]
    two = f"---\nconfigs:\n{''.join(subsets)}---\n".encode()
    reader.put("owner/two", README_md=two, main_jsonl=lines(chats(9)), hard_jsonl=lines(chats(9)[::-1]))
    assert reader.questions("owner/two", subset="hard")[0][0] == "q8"
    assert "has several subsets" in (said := reader.refused("owner/two")) and "main" in said and "hard" in said
    assert "has several subsets" in reader.refused("owner/two", subset="none")


def test_a_split_that_is_not_there_is_refused_with_those_that_are(reader: HubReader) -> None:
    reader.put("owner/splits", **{"data__train-0_jsonl": lines(chats(9)), "data__test-0_jsonl": lines(chats(9))})
    assert "no split 'dev'. Choose one of 'train', 'test'" in reader.refused("owner/splits", split="dev")


def test_a_repository_or_revision_that_is_not_there_is_a_sentence(reader: HubReader) -> None:
    reader.put("owner/there", train_jsonl=lines(chats(9)))
    assert "is not a dataset on the Hub, or it is private" in reader.refused("owner/missing")
    assert "has no revision 'v9'" in reader.refused("owner/there", revision="v9")


def test_a_gated_data_set_tells_what_to_do(reader: HubReader, tmp_path: Path) -> None:
    reader.put("owner/gated", **{"data__train-0_parquet": parquet(chats(9))})
    reader.hub.fill("owner/gated", {}, repo_type="dataset", gated=True)
    assert "is gated" in (said := reader.refused("owner/gated")) and "/datasets/owner/gated, accept" in said
    other = HubReader(reader.hub, tmp_path / "home", HF_TOKEN=TOKEN)
    assert other.questions("owner/gated")[0][0] == "q0"
    other.close()


def test_a_loading_script_is_refused_and_not_fetched(reader: HubReader) -> None:
    reader.put("owner/script", script_py=b"import os", README_md=b"# A script")
    assert "needs its own loading script ('script.py')" in reader.refused("owner/script")
    assert reader.hub.requests("", "script.py") == []


def test_a_repository_without_data_is_a_sentence(reader: HubReader) -> None:
    reader.put("owner/words", README_md=b"# Words")
    reader.put("owner/other", model_bin=b"\0" * 99)
    for name in ("owner/words", "owner/other"):
        assert "has no data files" in reader.refused(name)


def test_a_picture_book_is_refused(reader: HubReader) -> None:
    reader.put("owner/pictures", a_png=b"\x89PNG", b_png=b"\x89PNG")
    assert "not Parquet, JSON or CSV" in reader.refused("owner/pictures")


@pytest.mark.parametrize(
    "path", ["{here}/train.jsonl", "file://{here}/train.jsonl", "hf://datasets/a/secret/train.jsonl"]
)
def test_a_card_that_points_elsewhere_is_not_followed(reader: HubReader, path: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(chats(9)))
    reader.put("a/secret", train_jsonl=lines(chats(9)))
    name = f"owner/card{path[:2].strip('{/:').encode().hex()}"
    reader.put(name, README_md=card(train=path.format(here=tmp_path)), train_jsonl=lines(chats(9)))
    assert "refers to files outside the repository" in reader.refused(name)
    assert reader.hub.requests("", "secret/resolve") == []


def test_a_card_that_climbs_out_of_the_repository_finds_nothing(reader: HubReader) -> None:
    reader.put("owner/climbs", README_md=card(train="../../a/secret/train.jsonl"), train_jsonl=lines(chats(9)))
    assert "'owner/climbs' cannot be read as a dataset" in reader.refused("owner/climbs")


def test_a_folder_of_the_same_name_is_not_taken_for_it(reader: HubReader, tmp_path: Path) -> None:
    (tmp_path / "owner" / "local").mkdir(parents=True)
    (tmp_path / "owner" / "local" / "train.jsonl").write_bytes(lines(chats(9)))
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + READ
    asked = json.dumps({"source": "owner/local"}) + "\n"
    env = environment(tmp_path / "home", HF_ENDPOINT=reader.hub.url, PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], input=asked, env=env, capture_output=True, text=True)
    assert "is not a dataset on the Hub" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"PAR1" + b"\0" * 200 + b"PAR1", "train_parquet"), (b"hello\n" * 9, "train_jsonl"), (b"\xff\xfe\0", "train_csv")],
)
def test_damaged_data_is_a_sentence(reader: HubReader, content: bytes, name: str) -> None:
    reader.put(f"owner/bad-{name}", **{name: content})
    said = reader.refused(f"owner/bad-{name}")
    assert "is not a Parquet file" in said or "cannot be read as a dataset" in said


def test_a_card_that_cannot_be_read_is_a_sentence(reader: HubReader) -> None:
    reader.put("owner/yaml", README_md=b"---\nconfigs: [\n---\n", train_jsonl=lines(chats(9)))
    assert "cannot be read as a dataset" in reader.refused("owner/yaml")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unauthorised", "does not accept the token"),
        ("busy", "limits the rate of requests"),
        ("page", "is not the Hub"),
        ("gated", "is gated"),
    ],
)
def test_a_hub_that_refuses_is_a_sentence(reader: HubReader, kind: str, said: str) -> None:
    reader.put("owner/fine", train_jsonl=lines(chats(9)))
    reader.hub.fault("/api/datasets/*", kind)
    assert said in reader.refused("owner/fine")


def test_a_hub_in_trouble_is_a_sentence(reader: HubReader) -> None:
    reader.put("owner/sound", train_jsonl=lines(chats(9)))
    reader.hub.fault("/api/datasets/*", "broken")
    assert "The Hub has an error of its own (status 500)" in reader.refused("owner/sound")


def test_a_file_that_is_gone_is_a_sentence(reader: HubReader) -> None:
    reader.put("owner/gone", **{"data__train-0_parquet": parquet(chats(9))})
    reader.hub.fault("*.parquet", "no file")
    assert "owner/gone" in reader.refused("owner/gone")


def test_no_network_and_no_hub_are_sentences(tmp_path: Path) -> None:
    hub = Hub()
    hub.server.server_close()
    for env, said in (({}, "cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")):
        reader = HubReader(hub, tmp_path / said[:3], **env)
        assert said in reader.refused("owner/any")
        reader.close()
