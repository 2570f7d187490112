"""Escapes text of models, files, judges and addresses, so that the page shows it as text. No gradio.

Use `plain` for gr.Markdown, `bubble` for chat messages, `toast` for gr.Error, gr.Warning and gr.Info. They escape every
character that could be markup, instead of searching for dangerous markup.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_MARKDOWN = 30_000
"""Characters. A longer answer is shown as text, because parsing Markdown takes time on the server."""
SAID = '<div class="said"'
"""The start of every chat message. It must not have newlines or tabs, because gradio changes them."""

_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
_TARGET = re.compile(r"(?:https?://|mailto:)\S", re.IGNORECASE)
_PAGE = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%+-]*)*")
_BREAKS = {ord(character): f"&#{ord(character)};" for character in "\t\n\r"}


def plain(text: str) -> str:
    """Escape a text for Markdown, as one line. Do not use it in backticks or in the target of a link: character
    references are not decoded there.
    """
    return _MARKS.sub(lambda match: f"&#{ord(match[0])};", " ".join("".join(map(_visible, text)).split()))


def _visible(character: str) -> str:
    """Replace invisible characters, which may reorder or hide others, by their code point."""
    match unicodedata.category(character):
        case "Cf":
            return f"[U+{ord(character):04X}]"
        case "Cc":
            return " "
        case "Cs":
            return "\ufffd"
    return character


def link(title: str, target: str) -> str:
    """A Markdown link if the target is an https address, otherwise its text. `title` is not escaped."""
    return f"[{title}]({target})" if _PAGE.fullmatch(target) else f"{title}: {plain(target)}"


def toast(text: str) -> str:
    """Escape a text for the HTML of a toast."""
    return html.escape(text, quote=False)


def text_html(text: str) -> str:
    """HTML that shows a text exactly, with its spaces and lines. The browser ignores the first newline."""
    return f'<pre class="text">\n{html.escape(text)}</pre>'


@lru_cache(maxsize=128)
def answer_html(text: str) -> str:
    """Render the Markdown of an answer: paragraphs, lists, tables, code and links. HTML, images, character references
    and link definitions in it are shown as text.
    """
    return text_html(text) if len(text) > MAX_MARKDOWN else f'<div class="prose">{_MARKDOWN.render(text)}</div>'


def bubble(text: str, shown: str, notes: Sequence[tuple[str, str]] = ()) -> str:
    """The HTML of a chat message. `shown` is its HTML, `text` is what the user gets by copying and editing.

    `notes` are sentences of the app below it, each with a CSS class: waiting, failed, cut or facts. If there is no
    text, the notes are copied.
    """
    copied = html.escape(text or "\n".join(words for _, words in notes))
    below = "".join(f'<p class="note {kind}">{html.escape(words)}</p>' for kind, words in notes)
    return f'{SAID} data-text="{copied}">{shown}{below}</div>'.translate(_BREAKS)


def _code(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """A block of code, without its language, because gradio's highlighter would rewrite it."""
    return f"<pre><code>{html.escape(tokens[place].content)}</code></pre>\n"


def _link_open(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """The start of a link. Its title shows the target, because its text may name another address."""
    target = html.escape(str(tokens[place].attrs.get("href", "")))
    where = f' href="{target}" title="{target}" target="_blank" rel="noopener noreferrer nofollow"'
    return f"<a{where}>" if target else "<a>"


def _markdown() -> MarkdownIt:
    """CommonMark with tables and strikethrough. Rules that allow HTML, load something or hide text are off."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False})
    parser.enable(["table", "strikethrough"])
    parser.disable(["image", "entity", "html_inline", "html_block", "reference"])
    rules: dict[str, Callable[..., str]] = {"fence": _code, "code_block": _code, "link_open": _link_open}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    parser.validateLink = lambda url: _TARGET.match(url) is not None  # type: ignore[method-assign]
    return parser


_MARKDOWN = _markdown()
# Limit of empty cells added to short rows of a table. The default of 65,536 takes two seconds.
import_module("markdown_it.rules_block.table").MAX_AUTOCOMPLETED_CELLS = 1000  # type: ignore[attr-defined]

CHATBOT: dict[str, Any] = {
    "render_markdown": False, "sanitize_html": True, "allow_tags": False, "latex_delimiters": [],
}  # fmt: skip
"""Arguments of gr.Chatbot for messages parser by `bubble`: HTML, not parsed as Markdown or LaTeX."""

CSS = """
.said { white-space: normal; overflow-wrap: anywhere; }
.said .prose > :first-child { margin-top: 0; }
.said .prose > :last-child { margin-bottom: 0; }
.said .prose th, .said .prose td { padding: var(--spacing-sm) var(--spacing-md); margin: 0; }
.said pre.text { margin: 0 !important; padding: 0 !important; background: none !important; overflow: visible !important;
  font: inherit !important; white-space: pre-wrap !important; overflow-wrap: anywhere; }
.said .note { margin: var(--spacing-md) 0 0; }
.said .note:first-child { margin-top: 0; }
.said .waiting { font-style: italic; }
.said .failed { font-weight: 600; }
.said .cut { padding: var(--spacing-xs) var(--spacing-sm); background: #ffe58a; color: #1f1f1f; }
.said .facts { font-size: var(--text-sm); line-height: 1.4; }
"""

HEAD = """
<meta http-equiv="x-dns-prefetch-control" content="off">
<script>
(() => {
  // A chat message is HTML with its text in data-text. Copying, editing and screen readers use that text.
  const BEGINS = '<div class="said"';
  const message = (html) => new DOMParser().parseFromString(html, "text/html").querySelector(".said");
  const textOf = (html) => (html.startsWith(BEGINS) && message(html)?.dataset.text) || html;

  let clicked = null;
  document.addEventListener("click", (event) => { clicked = event.target; }, true);
  const copying = () => clicked instanceof Element && clicked.closest(".message-buttons");
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(copying() ? textOf(text) : text);
  }
  document.addEventListener("copy", (event) => {  // without access to the clipboard, gradio copies from a text box
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !copying() || !box.value.startsWith(BEGINS)) return;
    event.clipboardData.setData("text/plain", textOf(box.value));
    event.preventDefault();
  }, true);

  const seen = new WeakMap();
  const replaceTexts = () => {
    for (const box of document.querySelectorAll("textarea.edit-textarea")) {
      if (seen.has(box)) continue;
      seen.set(box, true);
      box.value = textOf(box.value);
      box.dispatchEvent(new Event("input", {bubbles: true}));
    }
    for (const element of document.querySelectorAll(`[aria-label*='${BEGINS}']`)) {
      const label = element.getAttribute("aria-label"), at = label.indexOf(BEGINS);
      if (seen.get(element) === label) continue;
      const bubble = message(label.slice(at));
      if (!bubble) continue;
      const notes = [...bubble.querySelectorAll(".note")].map((note) => note.textContent);
      const readable = label.slice(0, at) + [bubble.dataset.text, ...notes].join(" ");
      seen.set(element, readable);
      element.setAttribute("aria-label", readable);
    }
  };
  new MutationObserver(replaceTexts).observe(document, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"],
  });
})();
</script>
"""
