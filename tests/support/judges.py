"""What the tests of a judge behind an address share: a line to the double, a question, a form."""

from pathlib import Path
from typing import Any

from servers.judge import GRADE, JudgeServer

from backend.core.messages import Message
from backend.judge.remote_judge import RemoteJudge
from backend.remote.capabilities import Capabilities
from backend.remote.client import ApiClient, connect
from backend.remote.ledger import Ledger
from backend.remote.prices import Price
from backend.remote.response import ReplyFormat

KEY = "sk-canary-0123456789abcdefghij"
PRICE = Price(input=1.0, output=2.0)
QUESTION = [Message(role="system", content="Grade it."), Message(role="user", content="2 + 2 = 4")]
FORM = ReplyFormat(
    "score",
    {"type": "object", "properties": {name: {} for name in GRADE}, "required": list(GRADE)},
    'root ::= "{}"',
)


def ledger(folder: Path, cap_run: float = 1.0, cap_day: float = 5.0, run: str = "run") -> Ledger:
    return Ledger(folder / "ledger.jsonl", cap_run, cap_day, run)


def line(judge: JudgeServer, folder: Path, model: str = "judge-1", **caps: float) -> ApiClient:
    return connect(model, judge.url, KEY, PRICE, ledger(folder, **caps))


def endpoint(judge: JudgeServer, folder: Path, **options: Any) -> RemoteJudge:
    """With everything taken, nothing negotiated, and pauses too short to notice."""
    caps = {name: options.pop(name) for name in ("cap_run", "cap_day") if name in options}
    agreed = options.pop("agreed", Capabilities(model="judge-1", returned="judge-1", limit="max_tokens"))
    return RemoteJudge(line(judge, folder, **caps), agreed, **({"pause": 0.01} | options))
