"""An address and a key as people paste them."""

import traceback

import pytest

from backend.core.errors import LabError
from backend.remote.address import NO_KEY, OPENAI, clean_key, is_near, is_openai, judge_address

CANARY = "sk-canary-0123456789abcdefghij"
LOCAL = "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("", OPENAI),
        ("  \n", OPENAI),
        ("https://api.openai.com", OPENAI),
        ("https://API.openai.com/v1/", OPENAI),
        ("api.openai.com", OPENAI),
        ("https://api.openai.com/v1/chat/completions", OPENAI),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("http://127.0.0.1:8080/v1//", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
        ("192.168.1.20:1234/v1", "http://192.168.1.20:1234/v1"),
        ("ollama:11434", "https://ollama:11434/v1"),
        ("http://host.docker.internal:1234", "http://host.docker.internal:1234/v1"),
        ("openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ],
)  # fmt: skip
def test_an_address_is_made_whole(typed: str, address: str) -> None:
    assert judge_address(typed) == address
    assert judge_address(address) == address


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("http://example.com/v1", "travel readable"),
        ("http://8.8.8.8/v1", "travel readable"),
        ("http://134744072/v1", "travel readable"),
        ("http://169.254.169.254/v1", "travel readable"),
        ("http://0.0.0.0:80/v1", "travel readable"),
        ("http://localhost.example.com/v1", "travel readable"),
        ("http://ollama:11434/v1", "travel readable"),
        ("http://judge/v1", "travel readable"),
        ("ftp://example.com", "https://"),
        ("https://me:secret-word@example.com/v1", "password"),
        ("https://secret-word@example.com/v1", "password"),
        ("https://example.com/v1?key=secret-word", "Leave that part out"),
        ("https://exam ple.com", "blank"),
        ("https://ехample.com", "unusual letter"),
        ("https://", "cannot be read"),
        ("https://example.com:99999", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("/v1", "cannot be read"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(typed: str, why: str) -> None:
    with pytest.raises(LabError, match=why) as told:
        judge_address(typed)
    assert "secret-word" not in "".join(traceback.format_exception(told.value))


def test_near_and_own() -> None:
    assert is_near("http://127.3.2.1/v1") and is_near("http://[::1]/v1") and is_near("http://172.16.0.3/v1")
    assert not is_near("https://example.com/v1") and not is_near("https://172.32.0.3/v1")
    assert not is_near("https://judge/v1") and not is_near("https://ollama:11434/v1")  # a resolver may complete it
    assert is_openai(OPENAI) and not is_openai("https://api.openai.com.example.com/v1")


@pytest.mark.parametrize(
    "pasted",
    [f"{CANARY}\n", f"{CANARY}\r\n", f"  {CANARY}\t", f'"{CANARY}"', f"'{CANARY}' ", f"\ufeff{CANARY}\u200b",
     f"\u201c{CANARY}\u201d", f"\u00a0{CANARY}", CANARY[:10] + "\u200b" + CANARY[10:]],
)  # fmt: skip
def test_a_key_is_cleaned(pasted: str) -> None:
    assert clean_key(pasted, OPENAI) == CANARY


@pytest.mark.parametrize(
    ("pasted", "why"),
    [
        (CANARY + " " + CANARY, "blank"),
        (CANARY + "\n" + CANARY, "line break"),
        (CANARY + "\u00e9", "letters no key has"),
        (CANARY + "\x00", "letters no key has"),
        ("hf_" + CANARY, "Hugging Face"),
        ("sk-ant-" + CANARY, "Anthropic"),
        ("AIza" + CANARY, "Google"),
        ("0123456789abcdef0123456789abcdef01234567", "Weights & Biases"),
        (" \n", "OPENAI_API_KEY"),
        ("''", "OPENAI_API_KEY"),
    ],
)
def test_what_is_no_key_of_openai_is_refused_without_showing_it(pasted: str, why: str) -> None:
    with pytest.raises(LabError, match=why) as told:
        clean_key(pasted, OPENAI)
    shown = "".join(traceback.format_exception(told.value))
    assert CANARY not in shown and "0123456789abcdef" not in shown


def test_other_addresses_take_other_keys_or_none() -> None:
    assert clean_key("", LOCAL) == NO_KEY
    assert clean_key("hf_abc", LOCAL) == "hf_abc"
    with pytest.raises(LabError, match="blank"):
        clean_key("two words", LOCAL)
