"""A hostile template costs its own request: it is stopped, and the process goes on."""

import signal
import subprocess
import sys

import pytest
from support.templates import ROOT, template_of, user, works

from backend.core.errors import LabError
from backend.llamacpp import chat_template


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "multiplies": "{% set n = namespace(x=7) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "prints a deep list": (
        "{% set n = namespace(x=[]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}"
    ),
    "raises a deep list": (
        "{% set n = namespace(x=[]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
        "{{ raise_exception(n.x) }}"
    ),
    "allocates a text": "{{ 'a' * 10000000000 }}",
    "allocates step by step": (
        "{% set n = namespace(x='a') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}"
    ),
    "pads": "{{ 'a' | center(9999999999) }}",
    "formats": "{{ '%9999999999d' % 1 }}",
    "formats otherwise": "{{ '{:>9999999999}'.format(1) }}",
    "recurses": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "writes endlessly": "{% for i in range(99999) %}{% for j in range(99999) %}aaaaaaaaaaaa{% endfor %}{% endfor %}",
    "repeats what was said": "{% for i in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
}
FAILING = {
    "raises": "{{ raise_exception('no system prompt, please') }}",
    "raises nothing": "{{ raise_exception('') }}",
    "raises half a character": "{{ raise_exception('\\ud800') }}",
    "powers": "{{ 10 ** 10 }}",
    "a huge power": "{{ 9 ** 9 ** 9 }}",
    "a power of text": "{{ 'a' * 10 ** 10 }}",
    "a huge range": "{{ range(10 ** 9) }}",
    "a long range": "{% for i in range(1000000000) %}{% endfor %}",
    "divides by zero": "{{ 1 / 0 }}",
    "wrong types": "{{ 'a' + 1 }}",
    "missing index": "{{ messages[99].content.x }}",
    "cycles nothing": "{{ cycler() }}",
    "escapes by class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "escapes by globals": "{{ raise_exception.__globals__['re'] }}",
    "escapes by attr": "{{ (''|attr('__class__')).__base__ }}",
    "escapes by format": "{{ '{0.__class__.__mro__}'.format(messages).x.y }}",
    "changes the messages": "{{ messages.append(1) }}",
    "includes a file": "{% include '/etc/passwd' %}",
    "imports": "{% import 'os' as os %}",
}
UNREADABLE = {
    "open tag": "{% if %}",
    "unknown tag": "{% generation_of_evil %}",
    "no end": "{% for x in messages %}",
    "unknown filter": "{{ 'a' | evil }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep loops": "{% for i in messages %}" * 60 + "{% endfor %}" * 60,
    "deep conditions": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "slow to fold": "{{ ('a' * 60000000) | length }}" * 2000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_takes_too_much_is_stopped(name: str, hurried: None) -> None:
    hostile = template_of(ENDLESS[name])
    with pytest.raises(LabError, match=r"chat template of this model (was stopped|refuses) \(.+\)"):
        hostile.parts([user("Hello" * 100)])
    assert works()


def test_a_template_that_writes_too_much_is_stopped_by_its_length() -> None:
    with pytest.raises(LabError, match="wrote more than 1,000,000 characters"):
        template_of("{% for i in range(1001) %}{{ 'a' * 1000 }}{% endfor %}").parts([user("Hello")])


def test_a_template_that_was_stopped_is_not_run_again(hurried: None) -> None:
    hostile = template_of("{% if messages[0].content == 'loop' %}" + ENDLESS["loops"] + "{% endif %}fine")
    with pytest.raises(LabError, match="not run again"):
        hostile.parts([user("loop")])
    with pytest.raises(LabError, match="not run again"):
        hostile.parts([user("anything else")])


def test_a_template_that_only_refused_is_run_again() -> None:
    choosy = template_of("{% if messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}fine")
    with pytest.raises(LabError, match=r"refuses \(no\)"):
        choosy.parts([user("no")])
    assert choosy.parts([user("yes")]) == [("fine", True)]


@pytest.mark.parametrize("name", FAILING)
def test_a_template_that_fails_says_so(name: str) -> None:
    with pytest.raises(LabError, match=r"chat template of this model (refuses|cannot be read) \(.+\)") as refused:
        template_of(FAILING[name]).parts([user("Hello")])
    assert str(refused.value).encode()
    assert works()


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_template_that_cannot_be_read_says_so(name: str, hurried: None) -> None:
    with pytest.raises(LabError, match=r"chat template of this model cannot be read \(.+\)\. Choose another variant"):
        template_of(UNREADABLE[name])
    assert works()


UNINTERRUPTIBLE = """
from backend.llamacpp import chat_template as template
template.SECONDS = 0.2
template.ENDLESS = 0.6
source = (
    "{% set n = namespace(x=()) %}{% for i in range(64) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}"
)
template.ChatTemplate(source, "", "", template.control_pattern([])).parts([{"role": "user", "content": "Hello"}])
"""


def test_a_step_that_hears_no_alarm_ends_the_process() -> None:
    assert subprocess.run([sys.executable, "-c", UNINTERRUPTIBLE], cwd=ROOT).returncode == -signal.SIGPROF
