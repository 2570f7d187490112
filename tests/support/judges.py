"""What the tests of a judge behind an address share: a line to the double, a question, a form."""

from pathlib import Path
from typing import Any

from servers.judge import GRADE, JudgeServer

from backend.core.messages import Message
from backend.judge.remote_judge import Endpoint
from backend.remote.capabilities import Negotiated
from backend.remote.client import Line, connect
from backend.remote.ledger import Ledger
from backend.remote.prices import Price
from backend.remote.response import Form

KEY = "sk-canary-0123456789abcdefghij"
PRICE = Price(input=1.0, output=2.0)
QUESTION = [Message(role="system", content="Grade it."), Message(role="user", content="2 + 2 = 4")]
FORM = Form(
    "score",
    {"type": "object", "properties": {name: {} for name in GRADE}, "required": list(GRADE)},
    'root ::= "{}"',
)


def ledger(folder: Path, cap_run: float = 1.0, cap_day: float = 5.0, run: str = "run") -> Ledger:
    return Ledger(folder / "ledger.jsonl", cap_run, cap_day, run)


def line(judge: JudgeServer, folder: Path, model: str = "judge-1", **caps: float) -> Line:
    return connect(model, judge.url, KEY, PRICE, ledger(folder, **caps))


def endpoint(judge: JudgeServer, folder: Path, **options: Any) -> Endpoint:
    """With everything taken, nothing negotiated, and pauses too short to notice."""
    caps = {name: options.pop(name) for name in ("cap_run", "cap_day") if name in options}
    agreed = options.pop("agreed", Negotiated(model="judge-1", returned="judge-1", limit="max_tokens"))
    return Endpoint(line(judge, folder, **caps), agreed, **({"pause": 0.01} | options))
