"""Normalises the address and the key of a remote judge, and tells whether the address is on a private network."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from backend.core.errors import LabError, shown

OPENAI = "https://api.openai.com/v1"
CONCURRENCY = 20
"""Default number of concurrent calls to a public address. With 20, a run of 100 judgements of half a second each takes
an eighth of the time that it takes with one (`python -m bench.judge`)."""
_LOCAL_NAME = re.compile(r"localhost|.*\.(localhost|local|internal|home\.arpa)")
"""Host names that no public server can have. A name without a dot is not among them: a resolver may add a domain."""
_ENDPOINT = re.compile(r"/chat/completions$|/completions$|/models$")
NO_KEY = "none"
"""Sent to servers that need no key, because the client requires one."""
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_AROUND = " \t\r\n\v\f\u00a0\u2028\u2029'\"`\u2018\u2019\u201c\u201d"
_OTHER_VENDORS = (
    (re.compile(r"hf_"), "Hugging Face"),
    (re.compile(r"sk-ant-"), "Anthropic"),
    (re.compile(r"AIza"), "Google"),
    (re.compile(r"gsk_"), "Groq"),
    (re.compile(r"sk-or-"), "OpenRouter"),
    (re.compile(r"(local-|wandb_v1_)?[0-9a-f]{40}$"), "Weights & Biases"),
)


def judge_address(typed: str) -> str:
    """Normalise the address that a person typed.

    The result ends in /v1 or in the path that was typed. Empty text is OpenAI's address. Raises LabError if the text is
    no address, or if the key would be sent unencrypted to a public host.
    """
    text = typed.strip()
    if not text:
        return OPENAI
    if not re.fullmatch(r"[!-~]+", text):
        raise LabError("The judge's address contains a space or a character that is not ASCII. Type it again.")
    parts = _split(text)
    if parts.username is not None or parts.password is not None:
        raise LabError(
            "The judge's address contains a user name or a password, which would be shown and stored. Remove them from "
            "the address, and put the key into OPENAI_API_KEY in .env."
        )
    if "%" in parts.netloc:
        raise LabError("The host in the judge's address contains a %. Type the host name without escapes.")
    if parts.query or parts.fragment:
        raise LabError("The judge's address ends in ?... or #..., which is not supported. Remove that ending.")
    scheme = parts.scheme or ("http" if _is_local_host(parts.hostname or "") else "https")
    if scheme not in ("http", "https"):
        raise LabError(f"The judge's address begins with {shown(scheme)}. It must begin with https:// or http://.")
    if scheme == "http" and not _is_local_host(parts.hostname or ""):
        raise LabError(
            f"The judge's address {shown(parts.hostname or '')} is on a public network, and http:// would send the key "
            "and the answers unencrypted. Use https://."
        )
    path = _ENDPOINT.sub("", parts.path.rstrip("/"))
    return f"{scheme}://{parts.netloc.lower()}{path.rstrip('/') or '/v1'}"


def is_openai(address: str) -> bool:
    """Whether the address is OpenAI's, in any region."""
    return f".{host(address)}".endswith(".api.openai.com")


def is_local(address: str) -> bool:
    """Whether the address is this machine or a private network.

    http:// is allowed there, and no proxy is used. Calls may still cost money.
    """
    return _is_local_host(host(address))


def concurrency(address: str) -> int:
    """Default number of concurrent calls to an address: 1 for a local one, which usually has one GPU."""
    return 1 if is_local(address) else CONCURRENCY


def host(address: str) -> str:
    """The host of an address, in lower case and without a trailing dot; empty if it has none."""
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
        raise LabError("The judge's address is not valid. Type one like https://host/v1 or http://localhost:8080/v1.")
    return parts


def _is_local_host(name: str) -> bool:
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return bool(_LOCAL_NAME.fullmatch(name))
    return ip.is_loopback or (ip.is_private and not ip.is_link_local and not ip.is_unspecified)


def clean_key(text: str, address: str) -> str:
    """Remove blanks, quotes and invisible characters around a copied key.

    Raises LabError if the result cannot be a key of that address.
    """
    key = _INVISIBLE.sub("", text).strip(_AROUND)
    if not key:
        if is_openai(address):
            raise LabError("OpenAI's models need a key and none is set. Put yours into OPENAI_API_KEY in .env.")
        return NO_KEY
    if re.search(r"\s", key):
        raise LabError("The judge's key contains a space or a line break. Copy it again into OPENAI_API_KEY.")
    if not re.fullmatch(r"[!-~]+", key):
        raise LabError(
            "The judge's key contains characters that no key has: it was changed while it was copied. Copy it again "
            "into OPENAI_API_KEY."
        )
    vendor = next((name for pattern, name in _OTHER_VENDORS if pattern.match(key)), "")
    if vendor and is_openai(address):
        raise LabError(
            f"The judge's key looks like a key of {vendor}, which OpenAI does not accept. Put an OpenAI key into "
            "OPENAI_API_KEY, or set JUDGE_BASE_URL to the address that the key is for."
        )
    return key
