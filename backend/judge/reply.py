"""A judge's reply, read strictly: one JSON object with just what was asked for, or no verdict at all.

Never the first thing that looks right: an answer can hold a verdict of its own, and a judge may repeat it. If a reply
holds several objects, they must say the same; if one is broken, nothing in the reply counts.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Set
from typing import Any, NamedTuple

from backend.judge.rubric import Rubric
from backend.judge.score import FLAGS, Status

LONGEST = 50_000  # characters of a reply that are looked at
KEPT = 2_000  # characters of its evidence
MOST = 20  # objects in one reply
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


class ParsedReply(NamedTuple):
    """What a reply says. `values` is filled if and only if `status` is ok; else `why` says in a few words what is
    wrong."""

    status: Status
    why: str = ""
    values: dict[str, int] = {}
    evidence: str = ""
    flags: tuple[str, ...] = ()


class _Wrong(ValueError):
    """The object is not what was asked for."""


def parse_reply(text: str, rubric: Rubric) -> ParsedReply:
    """A reply to a question under that rubric."""
    wanted = {"evidence", *(one.name for one in rubric.criteria), "flags", "cannot_judge"}
    return parse_object(text, wanted, lambda one: _grades(one, rubric))


def parse_object(text: str, wanted: Set[str], reads: Callable[[dict[str, Any]], ParsedReply]) -> ParsedReply:
    """The one object of a reply, with just the keys that are wanted. `reads` raises ValueError, in a few words, for one
    that is not what was asked for."""
    if len(text) > LONGEST:
        return ParsedReply("bad_json", f"it is longer than {LONGEST:,} characters")
    thought = _THOUGHT.match(text)
    spoken = text[thought.end() :] if thought else text
    if spoken.lstrip().startswith("<think>"):
        return ParsedReply("bad_json", "it holds a thought without an end")
    found = [_checked(one, wanted, reads) for one in _objects(spoken)]
    if not found:
        return ParsedReply("bad_json", "it holds no JSON object that can be read, or one that is broken")
    if len({(one.status, tuple(one.values.items()), one.flags if not one.values else ()) for one in found}) > 1:
        return ParsedReply("bad_json", "it holds objects that differ")
    return found[-1]


def _objects(text: str) -> list[Any]:
    """Every outermost JSON object in the text; with duplicate keys or what is no number it counts as an error. None at
    all where a brace is left over: an object is broken then, and what can be read may be a quotation inside it."""
    found, place, between = list[Any](), 0, ""
    while len(found) < MOST and (start := text.find("{", place)) >= 0:
        between += text[place:start]
        try:
            one, place = _object(text, start)
        except (ValueError, RecursionError):
            return []
        found.append(one)
    between += text[place:]
    return [] if "{" in between or "}" in between else found


def _object(text: str, start: int) -> tuple[Any, int]:
    """What begins there, and where it ends, even if it breaks a rule of ours but none of JSON's."""
    try:
        return json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number).raw_decode(text, start)
    except _Wrong as error:
        return error, json.JSONDecoder().raw_decode(text, start)[1]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        raise _Wrong(f"{names.most_common(1)[0][0][:40]!r} is there twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise _Wrong(f"{text} is no number")


def _checked(one: Any, wanted: Set[str], reads: Callable[[dict[str, Any]], ParsedReply]) -> ParsedReply:
    try:
        if isinstance(one, _Wrong):
            raise one
        if missing := wanted - set(one):
            raise _Wrong(f"{min(missing)} is missing")
        if more := set(one) - wanted:
            raise _Wrong(f"{min(more)[:40]!r} was not asked for")
        return reads(one)
    except ValueError as error:
        return ParsedReply("bad_schema", str(error))


def kept(evidence: str) -> str:
    """As it can be written down: a JSON string may hold half of a character, by its number."""
    return evidence.encode("utf-8", "replace").decode()[:KEPT]


def _grades(one: dict[str, Any], rubric: Rubric) -> ParsedReply:
    if not isinstance(one["evidence"], str):
        raise _Wrong("evidence is no text")
    if not isinstance(one["cannot_judge"], bool):
        raise _Wrong("cannot_judge is neither true nor false")
    flags = one["flags"]
    if not isinstance(flags, list) or any(flag not in FLAGS for flag in flags):
        raise _Wrong("flags holds something that is no flag")
    values = {criterion.name: one[criterion.name] for criterion in rubric.criteria}
    for criterion in rubric.criteria:
        value = values[criterion.name]
        if type(value) is not int or not criterion.low <= value <= criterion.high:
            shown = "no number" if isinstance(value, list | dict) else json.dumps(value)[:40]
            raise _Wrong(f"{criterion.name} is {shown}, not {criterion.low:g} to {criterion.high:g}")
    evidence, told = kept(one["evidence"]), tuple(dict.fromkeys(flags))
    if one["cannot_judge"]:
        return ParsedReply("cannot_judge", "the judge says that it cannot judge this", {}, evidence, told)
    return ParsedReply("ok", "", values, evidence, told)
