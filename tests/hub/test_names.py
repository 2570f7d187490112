"""Names from outside: what is understood, and that nothing accepted leads out of its folder."""

import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.core.errors import LabError
from backend.hub import names
from backend.hub.names import HubPath, parse
from backend.library.requests import DownloadRequest
from backend.library.weights_folder import checked_identifier
from models.variant import Variant

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = [
    "", " ", ".", "..", "../x", "a/../b", "/etc/passwd", "-x/y", "x/-y", "--help", "a/b/c", "a//b", "a\nb/c",
    "a\x00/b", "$(id)/x", "a;b/c", "a b/c", "a/b c", "~/x", "a/~", "a/..b", "a/b..c", "a/b--c", "a/.b", "a/b.", "a/b-",
    "a/b.git", "x" * 300 + "/y", "a/" + "y" * 300, "\uff41/b", "\u0430/b", "a/\u202eb", "a/b\u200b", "a\\b/c", "a/b|c",
    "gpt2", "a/b'", 'a/"b"', "a/b`id`", "file:///a/b", "ftp://huggingface.co/a/b", "https://example.com/a/b",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("owner/name", HubPath("owner/name")),
        ("  owner/name\n", HubPath("owner/name")),
        ("owner/name@dev", HubPath("owner/name", "dev")),
        (f"o/n.1-GGUF_x@{COMMIT}", HubPath("o/n.1-GGUF_x", COMMIT)),
        ("owner/name@refs/pr/3", HubPath("owner/name", "refs/pr/3")),
        ("https://huggingface.co/owner/name", HubPath("owner/name")),
        ("HTTPS://HuggingFace.co/owner/name/", HubPath("owner/name")),
        ("hf.co/owner/name", HubPath("owner/name")),
        ("https://huggingface.co/owner/name/tree/dev", HubPath("owner/name", "dev")),
        ("https://huggingface.co/owner/name/tree/dev/folder", HubPath("owner/name", "dev")),
        ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F3", HubPath("owner/name", "refs/pr/3")),
        ("https://huggingface.co/o/n/blob/refs/pr/3/x.gguf", HubPath("o/n", "refs/pr/3", "x.gguf")),
        ("https://huggingface.co/o/n/blob/main/sub/x.Q4_K_M.gguf", HubPath("o/n", "main", "sub/x.Q4_K_M.gguf")),
        ("https://huggingface.co/o/n/resolve/main/x.gguf?download=true", HubPath("o/n", "main", "x.gguf")),
        ("http://127.0.0.1:8999/o/n/blob/main/x.gguf", HubPath("o/n", "main", "x.gguf")),
    ],
)
def test_what_a_person_pastes_is_understood(text: str, place: HubPath) -> None:
    assert parse(text, "http://127.0.0.1:8999/") == place


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_repository_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(text)
    said = str(caught.value)
    assert "owner/name" in said and said.isascii() and said.isprintable() and len(said) < 400


@pytest.mark.parametrize(
    "text",
    [
        "../../x", "a..b", "/main", "-main", "ma\nin", "a b", "a;b", "$(id)", "a//b", "main/", "x" * 201, "\uff4dain",
        "a@{1}", "a:b", "~", "a.lock", "",
    ],
)  # fmt: skip
def test_a_revision_is_not_a_path(text: str) -> None:
    with pytest.raises(LabError):
        parse(f"owner/name@{text}")


@pytest.mark.parametrize(
    "text",
    [
        "../x.gguf", "/x.gguf", "a/../x.gguf", "-x.gguf", "a/-x.gguf", "x\n.gguf", "x.gguf\n", "a//x.gguf", "./x.gguf",
        "x" * 300 + ".gguf", "\uff58.gguf", "\u202efugg.gguf", "x y.gguf", "a\\x.gguf", "C:x.gguf", "~/x.gguf",
        "$(id).gguf", "x;y.gguf", "x.gguf/", "x.py", "x.bin", "", ".gguf/..", "x\x00.gguf",
    ],
)  # fmt: skip
def test_a_file_of_a_repository_stays_in_its_folder(text: str) -> None:
    assert not names.usable_file(text)
    with pytest.raises(LabError):
        names.checked_file(text)


@pytest.mark.parametrize("field", ["repo", "revision", "file", "id", "over"])
def test_a_run_cannot_be_asked_with_a_hostile_name(field: str) -> None:
    variant = {"repo": "a/b", "file": "x.gguf", "id": "x"}
    DownloadRequest.model_validate({"variant": variant, "weights": "w"})
    for text in ("../x", "-x.gguf", "a\nb", "$(id)"):
        with pytest.raises(ValidationError if field == "id" else LabError):
            DownloadRequest.model_validate({"variant": variant | {field: text}, "weights": "w"})


def made(seed: int) -> str:
    """Something that looks enough like a name to be accepted now and then."""
    dice = random.Random(seed)
    pieces = ["..", "/", "-", ".", "~", "\n", "\x00", "\u202e", "\uff0e", "a", "b", "model", "%2e%2e", "\\", " ", "@"]
    pieces += list(string.ascii_letters)[:6]
    return "".join(dice.choice(pieces) for _ in range(dice.randint(1, 8)))


@pytest.mark.parametrize("check", [names.checked_repo, names.checked_revision, names.checked_file, checked_identifier])
def test_whatever_is_accepted_resolves_inside_its_root(check: Callable[[str], str], tmp_path: Path) -> None:
    accepted = 0
    for seed in range(20_000):
        text = made(seed) + (".gguf" if check is names.checked_file else "")
        if check is names.checked_repo:
            text = f"{made(seed)}/{made(-seed - 1)}"
        try:
            found = check(text)
        except LabError:
            continue
        accepted += 1
        target = (tmp_path / found).resolve()
        assert target.is_relative_to(tmp_path) and target != tmp_path, f"seed {seed}: {found!r}"
        assert found.isascii() and found.isprintable() and not found.startswith("-"), f"seed {seed}: {found!r}"
    assert accepted > 100


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("sub/Model-3B.Q4_K_M.gguf", "Model-3B.Q4_K_M"),
        ("owner/name", "name"),
        ("owner/My LoRA!", "My_LoRA_"),
        ("\u6771\u4eac.gguf", "unnamed"),
        ("../..", "unnamed"),
        ("-x.GGUF", "x"),
        ("x" * 300, "x" * 90),
    ],
)
def test_a_variant_gets_an_id_from_any_name(text: str, identifier: str) -> None:
    assert names.identifier(text) == identifier
    assert Variant(id=names.identifier(text)).id == identifier
