"""Text becomes markup that shows it and does nothing: by character, whatever the text looks like."""

import ast
import html
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from support.payloads import IMG, PAYLOADS
from support.session import read

from app import markup

TAGS = {
    "div", "p", "br", "pre", "code", "em", "strong", "s", "a", "ul", "ol", "li", "blockquote", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
VALUES = {
    ("div", "class"): r"prose",
    ("pre", "class"): r"text",
    ("ol", "start"): r"\d{1,9}",
    ("th", "style"): r"text-align:(left|center|right)",
    ("td", "style"): r"text-align:(left|center|right)",
    ("a", "href"): r"(?i:https?://|mailto:)[!-~]+",
    ("a", "title"): r"(?i:https?://|mailto:)[!-~]+",
    ("a", "target"): r"_blank",
    ("a", "rel"): r"noopener noreferrer nofollow",
}
PIECES = [
    "<", ">", "&", '"', "'", "`", "```", "~~~", "\n", "\n\n", "    ", "\t", "[", "]", "(", ")", "![", "](", "*", "**",
    "_", "~~", "|", "|-|\n", "> ", "- ", "1. ", "# ", "\\", "$$", "<!--", "-->", "img src=x onerror=1", "http://evil.example",
    "javascript:", "&lt;", "&#60;", "x", " ", "\x00", "\r", "\u202e", "mermaid", "[a]: ", "=\n", ":",
]  # fmt: skip
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


class Elements(HTMLParser):
    """Everything in HTML that is not text: elements with their parents, and whatever else there is."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.other: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), self.open[-1][1].get("class") or "" if self.open else ""))
        if tag not in ("br", "hr"):
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("br", "hr"):
            assert self.open.pop()[0] == tag

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def wrong(source: str) -> list[object]:
    """What an answer must not hold."""
    page = Elements(source)
    tags = [tag for tag, _, _ in page.found if tag not in TAGS]
    values = [
        (tag, name, value)
        for tag, attributes, _ in page.found
        for name, value in attributes.items()
        if not re.fullmatch(VALUES.get((tag, name), r"(?!)"), value or "")
    ]
    return [*tags, *values, *page.other, *page.open]


@pytest.mark.parametrize("text", PAYLOADS)
def test_an_answer_becomes_expected_elements_only(text: str) -> None:
    assert wrong(markup.answer_html(text)) == []


@given(texts)
def test_any_answer_becomes_expected_elements_only(text: str) -> None:
    assert wrong(markup.answer_html(text)) == []


@given(texts)
def test_plain_text_holds_no_mark_of_any_parser(text: str) -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|&#\d+;|[^\x00-\x7f])*", markup.plain(text))


@pytest.mark.parametrize("text", PAYLOADS)
def test_plain_text_is_read_as_what_was_said(text: str) -> None:
    letters = re.compile(r"[\W_]+")
    assert letters.sub("", re.sub(r"\[U\+\w+\]", "", html.unescape(markup.plain(text)))) == letters.sub("", text)


def test_plain_text_is_one_line_and_shows_what_has_no_shape() -> None:
    assert html.unescape(markup.plain(" a\n\n    b\tc\x00d ")) == "a b c d"
    assert html.unescape(markup.plain("a\u202eb\u200bc\ud800")) == "a[U+202E]b[U+200B]c\ufffd"


@given(texts)
def test_text_is_shown_to_the_letter(text: str) -> None:
    page = Elements(markup.text_html(text))
    assert [(tag, attributes) for tag, attributes, _ in page.found] == [("pre", {"class": "text"})]
    assert read(markup.text_html(text)) == text


@given(texts)
def test_a_message_carries_its_text_in_one_line(text: str) -> None:
    for shown in (markup.text_html(text), markup.answer_html(text)):
        message = markup.bubble(text, shown)
        tag, attributes, _ = Elements(message).found[0]
        assert (tag, attributes) == ("div", {"class": "said", "data-text": text})
        assert message.startswith(markup.SAID) and not set("\n\t\r") & set(message)


@pytest.mark.parametrize(
    "text", ["```\ncode", "~~~\n`", "> ```\na", "- a\n  ```", "| a |\n|--", "<!--", "**a", "    a", IMG]
)
def test_what_is_said_below_an_answer_cannot_be_swallowed_by_it(text: str) -> None:
    message = markup.bubble(text, markup.answer_html(text), [("cut", "⚠ CUT <b>")])
    page = Elements(message)
    assert [parent for tag, attributes, parent in page.found if attributes.get("class") == "note cut"] == ["said"]
    assert read(message).endswith("\n⚠ CUT <b>")


def test_a_message_without_text_can_be_copied_by_its_notes() -> None:
    _, attributes, _ = Elements(markup.bubble("", "", [("failed", "⚠ It <stopped>."), ("facts", "x")])).found[0]
    assert attributes["data-text"] == "⚠ It <stopped>.\nx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[x](https://a.example/b?c=1&d=2)", "https://a.example/b?c=1&d=2"),
        ("<http://a.example>", "http://a.example"),
        ("<me@a.example>", "mailto:me@a.example"),
        ("[x](javascript:alert)", None),
        ("[x](/gradio_api/file=a)", None),
        ("[x](//a.example)", None),
        ("[x]()", None),
        ("https://a.example", None),
        ("[x]: https://a.example\n\n[x]", None),
    ],
)
def test_links_go_to_pages_and_mail_addresses_and_show_their_target(text: str, expected: str | None) -> None:
    links = [attributes for tag, attributes, _ in Elements(markup.answer_html(text)).found if tag == "a" and attributes]
    assert [(link["href"], link["title"]) for link in links] == ([(expected, expected)] if expected else [])


@pytest.mark.parametrize(
    "text",
    ["&lt;br&gt; &amp;copy; &copy; a < b", "<b>x</b>", "[a]: http://b.example", "[x](javascript:y)", "$$x$$", "`&lt;`"],
)
def test_what_is_no_markdown_of_ours_is_shown_as_written(text: str) -> None:
    assert read(markup.answer_html(text)) == text.strip("`").replace("\n\n", "\n")


def test_markdown_is_shown() -> None:
    shown = markup.answer_html("# T\n\na **b**\nc ~~d~~\n\n|e|\n|-|\n|f|\n\n```Python x\n<g>\n```")
    for part in ("<h1>T</h1>", "<strong>b</strong><br />", "<s>d</s>", "<td>f</td>"):
        assert part in shown
    assert "<pre><code>&lt;g&gt;\n</code></pre>" in shown


def test_a_very_long_answer_and_a_very_wide_table_cost_little() -> None:
    assert markup.answer_html("*a* " * markup.MAX_MARKDOWN) == markup.text_html("*a* " * markup.MAX_MARKDOWN)
    wide = "|a" * 2500 + "\n" + "|-" * 2500 + "\n" + "|b\n" * 1600
    assert markup.answer_html(wide).count("<td") < 5000


@pytest.mark.parametrize(
    ("target", "linked"),
    [
        ("https://huggingface.co/owner/name-GGUF", True),
        ("https://wandb.ai/me/lab/runs/a1b2", True),
        ("https://a.example:8080/x%20y", True),
        ("http://a.example/", False),
        ("javascript:alert(1)", False),
        ("https://a.example/) <b>", False),
        ("https://a.example/](x", False),
        ("https://user@a.example/", False),
        ("https://a.example/\n", False),
        ('https://a.example/"x', False),
    ],
)
def test_a_target_of_ours_is_checked(target: str, linked: bool) -> None:
    text = markup.plain(target)
    assert markup.link("Page", target) == (f"[Page]({target})" if linked else f"Page: {text}")


@pytest.mark.parametrize("text", PAYLOADS)
def test_a_toast_is_text(text: str) -> None:
    page = Elements(markup.toast(text))
    assert (page.found, page.other) == ([], [])
    assert html.unescape(markup.toast(text)) == text


def test_toasts_are_made_in_one_place() -> None:
    direct = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "app").glob("*.py")
        if path.name != "guard.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("Error", "Info", "Warning", "Success")
    ]
    assert direct == []
    guard = (ROOT / "app" / "guard.py").read_text(encoding="utf-8")
    assert re.findall(r"gr\.(?:Error|Info|Warning)\((.{12})", guard) == ["markup.toast"] * 3
