"""A key as it is pasted, made clean before anything is sent. No sentence here ever holds the key."""

import re

from backend.core.errors import LabError
from backend.remote.address import is_openai

NO_KEY = "none"
"""What servers that want no key are sent: the client insists on one."""
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_AROUND = " \t\r\n\v\f\u00a0\u2028\u2029'\"`\u2018\u2019\u201c\u201d"
_STRANGERS = (
    (re.compile(r"hf_"), "Hugging Face"),
    (re.compile(r"sk-ant-"), "Anthropic"),
    (re.compile(r"AIza"), "Google"),
    (re.compile(r"gsk_"), "Groq"),
    (re.compile(r"sk-or-"), "OpenRouter"),
    (re.compile(r"(local-|wandb_v1_)?[0-9a-f]{40}$"), "Weights & Biases"),
)


def clean_key(text: str, address: str) -> str:
    """The key without what came along when it was copied; LabError for what cannot be a key of that address."""
    key = _INVISIBLE.sub("", text).strip(_AROUND)
    if not key:
        if is_openai(address):
            raise LabError("OpenAI's models need a key and there is none. Put yours into OPENAI_API_KEY in .env.")
        return NO_KEY
    if re.search(r"\s", key):
        raise LabError("The judge's key has a blank or a line break inside. Copy it once more into OPENAI_API_KEY.")
    if not re.fullmatch(r"[!-~]+", key):
        raise LabError(
            "The judge's key has letters no key has: it was changed while it was copied. Copy it once more into "
            "OPENAI_API_KEY."
        )
    vendor = next((name for pattern, name in _STRANGERS if pattern.match(key)), "")
    if vendor and is_openai(address):
        raise LabError(
            f"The judge's key looks like one of {vendor}, and OpenAI would not accept it. Put a key of OpenAI into "
            "OPENAI_API_KEY, or set JUDGE_BASE_URL to the address the key is for."
        )
    return key
