"""Parses a judge's reply strictly: one JSON object with exactly the requested keys, or no verdict.

A reply may quote a verdict from the judged answer. So all objects in a reply must agree, and a broken object makes the
whole reply invalid.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Set
from typing import Any, NamedTuple

from backend.judge.rubric import Rubric
from backend.judge.score import FLAGS, Status

LONGEST = 50_000  # characters of a reply
KEPT = 2_000  # characters of the evidence that are stored
MOST = 20  # objects in one reply
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


class ParsedReply(NamedTuple):
    """A parsed reply. `values` is filled if and only if `status` is "ok"; else `why` has the reason in a few words."""

    status: Status
    why: str = ""
    values: dict[str, int] = {}
    evidence: str = ""
    flags: tuple[str, ...] = ()


class _Wrong(ValueError):
    """The object has not the requested form."""


def parse_reply(text: str, rubric: Rubric) -> ParsedReply:
    """Parse the scores of one answer under a rubric."""
    keys = {"evidence", *(criterion.name for criterion in rubric.criteria), "flags", "cannot_judge"}
    return parse_object(text, keys, lambda record: _grades(record, rubric))


def parse_object(text: str, keys: Set[str], parse: Callable[[dict[str, Any]], ParsedReply]) -> ParsedReply:
    """Parse the JSON object of a reply, which must have exactly these keys.

    `parse` converts the object; it raises ValueError, with a few words, for one that is not valid.
    """
    if len(text) > LONGEST:
        return ParsedReply("bad_json", f"it is longer than {LONGEST:,} characters")
    thought = _THOUGHT.match(text)
    spoken = text[thought.end() :] if thought else text
    if spoken.lstrip().startswith("<think>"):
        return ParsedReply("bad_json", "it has a <think> block without an end")
    results = [_parse_one(item, keys, parse) for item in _objects(spoken)]
    if not results:
        return ParsedReply("bad_json", "it has no valid JSON object, or a broken one")
    if len({(r.status, tuple(r.values.items()), r.flags if not r.values else ()) for r in results}) > 1:
        return ParsedReply("bad_json", "it has several objects that differ")
    return results[-1]


def _objects(text: str) -> list[dict[str, Any] | _Wrong]:
    """All outermost JSON objects in the text; one with duplicate keys, NaN or Infinity is returned as its error.

    Returns an empty list if a brace is left over. Then an object is broken, and a valid one may be a quotation inside.
    """
    objects, position, between = list[dict[str, Any] | _Wrong](), 0, ""
    while len(objects) < MOST and (start := text.find("{", position)) >= 0:
        between += text[position:start]
        try:
            item, position = _object(text, start)
        except (ValueError, RecursionError):
            return []
        objects.append(item)
    between += text[position:]
    return [] if "{" in between or "}" in between else objects


def _object(text: str, start: int) -> tuple[Any, int]:
    """The object that begins at `start`, or the error for an object that is valid JSON only; and where it ends."""
    try:
        return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).raw_decode(text, start)
    except _Wrong as error:
        return error, json.JSONDecoder().raw_decode(text, start)[1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        raise _Wrong(f"the key {names.most_common(1)[0][0][:40]!r} occurs twice")
    return dict(pairs)


def _no_constant(text: str) -> Any:
    raise _Wrong(f"{text} is not a valid number")


def _parse_one(
    item: dict[str, Any] | _Wrong, keys: Set[str], parse: Callable[[dict[str, Any]], ParsedReply]
) -> ParsedReply:
    try:
        if isinstance(item, _Wrong):
            raise item
        if missing := keys - set(item):
            raise _Wrong(f"{min(missing)} is missing")
        if more := set(item) - keys:
            raise _Wrong(f"the key {min(more)[:40]!r} was not requested")
        return parse(item)
    except ValueError as error:
        return ParsedReply("bad_schema", str(error))


def storable(evidence: str) -> str:
    """Replace lone surrogates, which JSON allows and UTF-8 does not, and cut the text to KEPT characters."""
    return evidence.encode("utf-8", "replace").decode()[:KEPT]


def _grades(record: dict[str, Any], rubric: Rubric) -> ParsedReply:
    """Check the object of a reply with scores."""
    if not isinstance(record["evidence"], str):
        raise _Wrong("evidence is not a text")
    if not isinstance(record["cannot_judge"], bool):
        raise _Wrong("cannot_judge is neither true nor false")
    flags = record["flags"]
    if not isinstance(flags, list) or any(flag not in FLAGS for flag in flags):
        raise _Wrong("flags has an unknown flag")
    values = {criterion.name: record[criterion.name] for criterion in rubric.criteria}
    for criterion in rubric.criteria:
        value = values[criterion.name]
        if type(value) is not int or not criterion.low <= value <= criterion.high:
            shown = "not a number" if isinstance(value, list | dict) else json.dumps(value)[:40]
            raise _Wrong(f"{criterion.name} is {shown}, not {criterion.low:g} to {criterion.high:g}")
    evidence, unique_flags = storable(record["evidence"]), tuple(dict.fromkeys(flags))
    if record["cannot_judge"]:
        return ParsedReply("cannot_judge", "the judge says that it cannot judge this", {}, evidence, unique_flags)
    return ParsedReply("ok", "", values, evidence, unique_flags)
