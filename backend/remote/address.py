"""Where a judge is: an address as a person types it, made whole, and whether it is on a private network."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from backend.core.errors import LabError, shown

OPENAI = "https://api.openai.com/v1"
AT_ONCE = 20
"""Questions under way at once where nothing else is asked for: so many make 100 judgements of half a second eight times
as fast as one after the other, the start of a run included (`python -m bench.judge`)."""
_NAME_AT_HOME = re.compile(r"localhost|.*\.(localhost|local|internal|home\.arpa)")
"""Names that no public server can have. A name of one word is not among them: a resolver may complete it."""
_CALL = re.compile(r"/chat/completions$|/completions$|/models$")
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


def judge_address(typed: str) -> str:
    """The address a client is given, ending in /v1 or in a path of its own; empty is OpenAI's. LabError where the key
    would travel readable, or where it is no address at all."""
    text = typed.strip()
    if not text:
        return OPENAI
    if not re.fullmatch(r"[!-~]+", text):
        raise LabError("The judge's address has a blank or an unusual letter in it. Type it again, plain.")
    parts = _split(text)
    if parts.username is not None or parts.password is not None:
        raise LabError(
            "The judge's address has a name or a password in it, which would be shown and stored. Leave that out of "
            "the address; a key belongs into OPENAI_API_KEY in .env."
        )
    if "%" in parts.netloc:
        raise LabError("The judge's address has a % in its host. Type the host as it is called.")
    if parts.query or parts.fragment:
        raise LabError("The judge's address ends in ?... or #..., which cannot be kept. Leave that part out.")
    scheme = parts.scheme or ("http" if _near(parts.hostname or "") else "https")
    if scheme not in ("http", "https"):
        raise LabError(f"The judge's address begins with {shown(scheme)}. Begin it with https:// or http://.")
    if scheme == "http" and not _near(parts.hostname or ""):
        raise LabError(
            f"The judge's address {shown(parts.hostname or '')} is out on the network, and over http:// the key and "
            "the answers would travel readable. Use https://."
        )
    path = _CALL.sub("", parts.path.rstrip("/"))
    return f"{scheme}://{parts.netloc.lower()}{path.rstrip('/') or '/v1'}"


def is_openai(address: str) -> bool:
    """Whether OpenAI is paid for it, in any of its regions."""
    return f".{host(address)}".endswith(".api.openai.com")


def is_near(address: str) -> bool:
    """This machine or a private network: http:// is allowed there, and no proxy is used. It may still cost money."""
    return _near(host(address))


def at_once(address: str) -> int:
    """How many questions an address is asked at once: one on a machine near by, which has to share itself."""
    return 1 if is_near(address) else AT_ONCE


def host(address: str) -> str:
    """In lower case and without the dot of a whole name; empty where there is none."""
    try:
        return (urlsplit(address).hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port
    except ValueError:
        port, parts = 0, SplitResult("", "", "", "", "")
    if port == 0 or not parts.hostname:
        raise LabError("The judge's address cannot be read. It looks like https://host/v1 or http://localhost:8080/v1.")
    return parts


def _near(name: str) -> bool:
    try:
        place = ipaddress.ip_address(name)
    except ValueError:
        return bool(_NAME_AT_HOME.fullmatch(name))
    return place.is_loopback or (place.is_private and not place.is_link_local and not place.is_unspecified)


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
