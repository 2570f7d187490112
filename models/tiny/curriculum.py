"""Questions with known answers, conversations made of them, and what is withheld from training.

A question is withheld for one of two reasons: its wording is never trained on, or its combination of values
is not. Both follow from the text alone, so every machine and every seed draws the same line.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from models.tiny.kinds import Kind
from models.tiny.wordings import KINDS

Part = Literal["train", "wording", "combination"]
Message = dict[str, str]

WITHHELD = 8  # one combination in so many is kept back
OPENINGS = (
    "Please tell me: ", "Question: ", "Quick question: ", "I have a question. ", "Hi! ", "Hello. ", "Now: ",
    "Next question: ", "Can you help me? ", "Thanks. ",
)  # fmt: skip
CLOSINGS = (" Please.", " Thank you.", " Thanks!", " Answer briefly.")
SYSTEMS = (
    "You are a helpful assistant.", "Answer briefly.", "You are a friendly assistant. Be short and correct.",
    "You answer small questions.", "Be concise.", "You are an expert. Answer the question.",
    "You are a careful assistant who answers in as few words as possible.", "Help the user.",
)  # fmt: skip

# Arithmetic and copying take longer to learn than facts.
SHARE = {"sum": 3, "difference": 4, "compare": 2, "yes or no": 2, "repeat": 2, "join": 2, "count": 2,
         "quotes": 1.5, "braces": 1.5, "category": 1.5, "greeting": 0.7, "mood": 0.8, "thanks": 0.3,
         "farewell": 0.3, "skills": 0.8, "introduction": 0.7}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question with its one right answer, and why training may or may not see it."""

    kind: str
    prompt: str
    answer: str
    part: Part


def is_withheld(kind: Kind, wording: str, values: tuple[str, ...]) -> bool:
    """Whether this combination is kept back: the values alone where they decide the answer."""
    key = "|".join((kind.name, "" if kind.computed else wording, *values))
    return bool(values) and hashlib.sha256(key.encode()).digest()[0] % WITHHELD == 0


def dressed(rng: Random, kind: Kind, core: str) -> str:
    """The question as people type it: with an opening, a closing, or in a hurry."""
    if core.endswith("?") and rng.random() < 0.12:
        core += rng.choice(CLOSINGS)
    if rng.random() < 0.15:
        core = rng.choice(OPENINGS) + core
    if not kind.keeps_case and rng.random() < 0.08:
        core = core.lower().rstrip("?.!")
    return core


def draw(rng: Random, kind: Kind, part: Part) -> Question:
    """A question of this kind that belongs to this part."""
    while True:
        wording = rng.choice(kind.unseen if part == "wording" else kind.seen)
        values, answer = kind.draw(rng)
        if part == "wording" or is_withheld(kind, wording, values) == (part == "combination"):
            return Question(kind.name, dressed(rng, kind, wording.format(*values)), answer, part)


def parts(kind: Kind) -> tuple[Part, ...]:
    """Which withheld parts a kind has; questions without values have no combinations."""
    return ("wording", "combination") if "{0}" in kind.seen[0] else ("wording",)


def held_out(n: int, seed: int) -> list[Question]:
    """`n` questions training never saw, every kind and both reasons in turn."""
    rng = Random(f"held out {seed}")
    return [draw(rng, kind := KINDS[i % len(KINDS)], parts(kind)[i // len(KINDS) % len(parts(kind))]) for i in range(n)]


def trained(n: int, seed: int) -> list[Question]:
    """`n` questions of the training part."""
    rng = Random(f"trained {seed}")
    return [draw(rng, pick(rng), "train") for _ in range(n)]


def pick(rng: Random) -> Kind:
    """A kind, the hard ones more often."""
    return rng.choices(KINDS, [SHARE.get(kind.name, 1) for kind in KINDS])[0]


def turns(rng: Random) -> int:
    """How long a conversation is: mostly one question, now and then enough to fill a few hundred tokens."""
    return rng.choices((1, 2, 3, 4, rng.randint(5, 12)), (50, 16, 14, 14, 6))[0]


def conversation(rng: Random) -> list[Message]:
    """A chat of training questions, four in ten under a system message."""
    messages = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.4 else []
    for _ in range(turns(rng)):
        question = draw(rng, pick(rng), "train")
        messages.append({"role": "user", "content": question.prompt})
        messages.append({"role": "assistant", "content": question.answer})
    return messages


def conversations(seed: int) -> Iterator[list[Message]]:
    """Training chats without end."""
    rng = Random(f"conversations {seed}")
    while True:
        yield conversation(rng)


def habit(answer: str) -> str:
    """The answer as the small JSON object that `tiny_lora` is taught to give."""
    return json.dumps({"answer": answer}, ensure_ascii=False)


def habitual(messages: list[Message]) -> list[Message]:
    """The same chat, answered with the habit."""
    return [m | {"content": habit(m["content"])} if m["role"] == "assistant" else m for m in messages]


def habit_answer(text: str) -> str | None:
    """The answer inside a reply that has the habit; None when it has not."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer if isinstance(answer, str) else None
