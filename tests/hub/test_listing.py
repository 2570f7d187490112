"""What a repository holds is told truly, within bounds, and a Hub in trouble costs one sentence."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ROOT
from huggingface_hub.errors import HfHubHTTPError
from servers.hub import Hub
from servers.hub_answers import TOKEN, blob_of
from support.workers import environment

from backend.core.errors import LabError
from backend.hub.client import with_retries
from backend.hub.listing import RepositoryListing, list_repository
from backend.hub.names import HubPath

NAME = "owner/model-GGUF"
PLACE = HubPath(NAME)
HOSTILE = [
    "../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "x\n.gguf", "-x.gguf", "x" * 300 + ".gguf", "\uff58.gguf",
    "\u202efugg.gguf", "a b.gguf", "$(id).gguf", "C:x.gguf", "a\\b.gguf", "a//b.gguf", "~/x.gguf",
]  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def ask(hub: Hub, home: Path, place: HubPath = PLACE, timeout: float = 20, **more: str) -> RepositoryListing:
    return list_repository(place, environment(home, HF_ENDPOINT=hub.url) | more, timeout)


def test_files_with_sizes_checksums_and_quantisations(hub: Hub, tmp_path: Path) -> None:
    card = {"license": "mit", "base_model": ["meta/llama"]}
    for name in ("m-Q4_K_M.gguf", "m.IQ4_XS.gguf", "sub/m-BF16.gguf", "m-f16.gguf", "m.q8_0.gguf", "plain.gguf"):
        commit = hub.add(NAME, name, name.encode() * 10, cardData=card)
    hub.add(NAME, "README.md", b"# hi")
    commit = hub.add(NAME, "config.json", b"{}")
    found = ask(hub, tmp_path)
    kinds = {file.path: file.quantisation for file in found.files}
    assert kinds == {
        "m-Q4_K_M.gguf": "Q4_K_M", "m.IQ4_XS.gguf": "IQ4_XS", "sub/m-BF16.gguf": "BF16", "m-f16.gguf": "F16",
        "m.q8_0.gguf": "Q8_0", "plain.gguf": "",
    }  # fmt: skip
    assert {(file.size, file.sha256) for file in found.files} == {
        (len(name) * 10, blob_of(name, name.encode() * 10).oid) for name in kinds
    }
    assert (found.kind, found.commit, found.licence, found.base) == ("gguf", commit, "mit", "meta/llama")
    assert (found.architecture, found.gated, found.left_out) == ("llama", False, 2)
    assert len(hub.requests()) == 1


def test_parts_and_projectors_are_listed_with_a_reason(hub: Hub, tmp_path: Path) -> None:
    for name in ("m-Q8_0-00002-of-00003.gguf", "mmproj-model-f16.gguf", "m.imatrix.gguf"):
        hub.add(NAME, name, b"x")
    whys = {file.path: file.why for file in ask(hub, tmp_path).files}
    assert whys["m-Q8_0-00002-of-00003.gguf"].startswith("part 2 of 3")
    assert "image encoder" in whys["mmproj-model-f16.gguf"] and "statistics" in whys["m.imatrix.gguf"]


def test_what_the_hubs_scan_rejects_cannot_be_chosen(hub: Hub, tmp_path: Path) -> None:
    levels = {"bad.gguf": "unsafe", "odd.gguf": "?", "ok.gguf": "caution"}
    issues = [{"path": path, "level": level} for path, level in levels.items()]
    for name in levels:
        hub.add(NAME, name, b"x", securityRepoStatus={"scansDone": True, "filesWithIssues": issues})
    whys = {file.path: file.why for file in ask(hub, tmp_path).files}
    calls = "the Hub's security scan says "
    assert whys == {"bad.gguf": calls + "'unsafe'", "odd.gguf": calls + "'?'", "ok.gguf": ""}
    assert "securityStatus" in hub.requests()[0][1]


def test_an_unusable_home_of_the_client_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="set HF_HOME to another"):
        ask(hub, tmp_path, HF_HOME=str(tmp_path / "file" / "hf"))


def test_an_adapter_is_told_with_its_base(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, "adapter_config.json", b"{}", config={"peft": {"base_model_name_or_path": "meta/llama"}})
    hub.add(NAME, "adapter_model.safetensors", b"x" * 9)
    hub.add(NAME, "other/adapter_model.safetensors", b"without its settings")
    found = ask(hub, tmp_path)
    assert (found.kind, found.base, [file.path for file in found.files]) == (
        "adapter", "meta/llama", ["adapter_model.safetensors"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["pytorch_model.bin"], "only pickles"),
        (["adapter_model.bin", "adapter_config.json"], "adapter as a pickle"),
        (["modeling_x.py", "config.json", "model.safetensors"], "its own program code"),
        (["model.safetensors", "config.json"], "no GGUF"),
        (["README.md"], "Choose another"),
    ],
)
def test_a_repository_with_nothing_for_us_says_why(files: list[str], words: str, hub: Hub, tmp_path: Path) -> None:
    hub.fill(NAME, {name: blob_of(name, b"x") for name in files})
    found = ask(hub, tmp_path)
    assert found.kind == "neither" and words in found.why and not found.files


def test_hostile_names_are_left_out(hub: Hub, tmp_path: Path) -> None:
    hub.fill(NAME, {name: blob_of(name, b"x") for name in [*HOSTILE, "good.gguf"]})
    found = ask(hub, tmp_path)
    assert [file.path for file in found.files] == ["good.gguf"] and found.left_out == len(HOSTILE)


def test_a_hundred_thousand_files_are_bounded(hub: Hub, tmp_path: Path) -> None:
    blob = blob_of("x.gguf", b"x")
    hub.fill(NAME, {f"m{number}.gguf": blob for number in range(100_000)})
    found = ask(hub, tmp_path)
    assert len(found.files) == 500 and found.left_out == 99_500


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unauthorised", "does not accept the token"),
        ("gated", "accept its licence first"),
        ("no repository", "not on the Hub, or it is private"),
        ("no revision", "no revision main"),
        ("busy", "Wait 300 seconds"),
        ("loop", "in a loop"),
        ("page", "not the Hub"),
    ],
)
def test_a_refusal_is_a_sentence_after_one_question(kind: str, words: str, hub: Hub, tmp_path: Path) -> None:
    hub.fault("/api/*", kind, retry_after=300)
    with pytest.raises(LabError, match=words):
        ask(hub, tmp_path)
    assert len(hub.requests()) == 1 or kind == "loop"


@pytest.mark.parametrize(("kind", "options"), [("away", {}), ("busy", {"retry_after": 1})])
def test_trouble_that_passes_is_not_seen(kind: str, options: dict[str, int], hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, "m.gguf", b"x")
    hub.fault("/api/*", kind, times=1, **options)
    assert ask(hub, tmp_path).kind == "gguf" and len(hub.requests()) == 2


def answer(status: int, **headers: str) -> HfHubHTTPError:
    request = httpx.Request("GET", "http://hub")
    return HfHubHTTPError("x", response=httpx.Response(status, headers=headers, request=request))


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (answer(503), [1, 2]),
        (httpx.ConnectError("x"), [1, 2]),
        (httpx.ReadTimeout("x"), [1, 2]),
        (answer(429), [2, 4]),
        (answer(429, **{"Retry-After": "30"}), [30, 30]),
        (answer(429, **{"Retry-After": "31"}), []),
        (answer(404), []),
        (answer(401), []),
        (httpx.ProxyError("x"), []),
        (httpx.TooManyRedirects("x"), []),
        (OSError(28, "No space left on device"), []),
        (ValueError("x"), []),
    ],
)
def test_what_is_asked_again_and_when(error: Exception, pauses: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        with_retries(fail)
    assert slept == pauses


def test_a_listing_without_end_is_cut(hub: Hub, tmp_path: Path) -> None:
    hub.fault("/api/*", "endless")
    with pytest.raises(LabError, match="within 2 seconds"):
        ask(hub, tmp_path, timeout=2)


def test_a_private_repository_needs_the_token_and_does_not_get_it_printed(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, "m.gguf", b"x", private=True)
    with pytest.raises(LabError, match="private one put a token"):
        ask(hub, tmp_path)
    with pytest.raises(LabError) as caught:
        ask(hub, tmp_path, HF_TOKEN="hf_wrongsecret")
    assert "hf_wrongsecret" not in str(caught.value)
    assert ask(hub, tmp_path, HF_TOKEN=TOKEN).kind == "gguf"


def test_another_revision_and_a_commit(hub: Hub, tmp_path: Path) -> None:
    first = hub.add(NAME, "old.gguf", b"x")
    hub.add(NAME, "new.gguf", b"x")
    hub.add(NAME, "pr.gguf", b"x", branch="refs/pr/1")
    assert [file.path for file in ask(hub, tmp_path, HubPath(NAME, first)).files] == ["old.gguf"]
    assert [file.path for file in ask(hub, tmp_path, HubPath(NAME, "refs/pr/1")).files] == ["pr.gguf"]


def test_offline_and_without_a_network(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="HF_HUB_OFFLINE is set"):
        ask(hub, tmp_path, HF_HUB_OFFLINE="1")
    with pytest.raises(LabError, match="proxy in HTTP_PROXY"):
        ask(hub, tmp_path, HTTP_PROXY="http://me:secret@127.0.0.1:9")


@pytest.mark.parametrize("words", [["--", "../x/y"], ["--revision=../../x", "--", NAME], ["--", "-x/y"]])
def test_the_worker_checks_names_itself(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend.hub.list_files", *words], cwd=ROOT, env=environment(tmp_path),
        capture_output=True, text=True,
    )  # fmt: skip
    assert "error" in json.loads(done.stdout) and done.returncode == 1 and not done.stderr


def test_the_double_serves_a_folder_as_a_script(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "m-F16.gguf").write_bytes(b"x" * 100)
    words = [sys.executable, "-m", "servers.hub", "--port", "0", "--folder", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        found = list_repository(HubPath("owner/name"), environment(tmp_path, HF_ENDPOINT=url))
        process.kill()
    assert [(file.size, file.quantisation) for file in found.files] == [(100, "F16")]
