"""An address and a key as people paste them."""

import traceback

import pytest

from backend.core.errors import LabError
from backend.remote.address import NO_KEY, OPENAI, clean_key, is_local, is_openai, judge_address

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
        ("http://example.com/v1", "unencrypted"),
        ("http://8.8.8.8/v1", "unencrypted"),
        ("http://134744072/v1", "unencrypted"),
        ("http://169.254.169.254/v1", "unencrypted"),
        ("http://0.0.0.0:80/v1", "unencrypted"),
        ("http://localhost.example.com/v1", "unencrypted"),
        ("http://ollama:11434/v1", "unencrypted"),
        ("http://judge/v1", "unencrypted"),
        ("ftp://example.com", "https://"),
        ("https://me:secret-word@example.com/v1", "password"),
        ("https://secret-word@example.com/v1", "password"),
        ("https://example.com/v1?key=secret-word", "Remove that ending"),
        ("https://exam ple.com", "space"),
        ("https://ехample.com", "not ASCII"),
        ("https://", "not valid"),
        ("https://example.com:99999", "not valid"),
        ("https://[::1", "not valid"),
        ("/v1", "not valid"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(typed: str, why: str) -> None:
    with pytest.raises(LabError, match=why) as told:
        judge_address(typed)
    assert "secret-word" not in "".join(traceback.format_exception(told.value))


def test_near_and_own() -> None:
    assert is_local("http://127.3.2.1/v1") and is_local("http://[::1]/v1") and is_local("http://172.16.0.3/v1")
    assert not is_local("https://example.com/v1") and not is_local("https://172.32.0.3/v1")
    assert not is_local("https://judge/v1") and not is_local("https://ollama:11434/v1")  # a resolver may complete it
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
        (CANARY + " " + CANARY, "space"),
        (CANARY + "\n" + CANARY, "line break"),
        (CANARY + "\u00e9", "characters that no key has"),
        (CANARY + "\x00", "characters that no key has"),
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
    with pytest.raises(LabError, match="contains a space"):
        clean_key("two words", LOCAL)
