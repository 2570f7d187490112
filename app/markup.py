"""Text that becomes markup. What models, files, judges and addresses say is shown here as text, and does nothing.

Knows no gradio. `plain` is for a gr.Markdown, `bubble` makes the message of a chat, `toast` is for gr.Error, gr.Warning
and gr.Info. None of them guesses what a parser in the browser takes for code: they escape by character.
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

LONGEST = 30_000
"""Characters of an answer that are read as Markdown, which costs the server time. A longer one is shown as text."""
SAID = '<div class="said"'
"""Every message of a chat begins with this. No newline and no tab follows: gradio would change them."""

_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
_TARGET = re.compile(r"(?:https?://|mailto:)\S", re.IGNORECASE)
_PAGE = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%+-]*)*")
_BREAKS = {ord(one): f"&#{ord(one)};" for one in "\t\n\r"}


def plain(text: str) -> str:
    """One line of Markdown that shows this text and has no meaning. Never put it between backticks or into a target:
    character references are not read there."""
    return _MARKS.sub(lambda found: f"&#{ord(found[0])};", " ".join("".join(map(_visible, text)).split()))


def _visible(character: str) -> str:
    """What has no shape, and may reorder or hide its neighbours, is shown by its number."""
    match unicodedata.category(character):
        case "Cf":
            return f"[U+{ord(character):04X}]"
        case "Cc":
            return " "
        case "Cs":
            return "\ufffd"
    return character


def link(title: str, target: str) -> str:
    """Markdown: a link to the target if that is a page, else its text. `title` is ours."""
    return f"[{title}]({target})" if _PAGE.fullmatch(target) else f"{title}: {plain(target)}"


def toast(text: str) -> str:
    """HTML of a toast that shows this text."""
    return html.escape(text, quote=False)


def text_html(text: str) -> str:
    """HTML that shows a text to the letter, spaces and lines too. The browser drops the newline it begins with."""
    return f'<pre class="text">\n{html.escape(text)}</pre>'


@lru_cache(maxsize=128)
def answer_html(text: str) -> str:
    """HTML of an answer: the paragraphs, lists, tables, code and links of its Markdown. HTML, images, character
    references and definitions in it are text."""
    return text_html(text) if len(text) > LONGEST else f'<div class="prose">{_MARKDOWN.render(text)}</div>'


def bubble(text: str, shown: str, notes: Sequence[tuple[str, str]] = ()) -> str:
    """A message of a chat in HTML: what is shown, and the text that copying and editing give.

    `notes` are sentences of ours below it, each with its class: waiting, failed, cut or facts. Where there is no text,
    they are what can be copied.
    """
    kept = html.escape(text or "\n".join(words for _, words in notes))
    below = "".join(f'<p class="note {kind}">{html.escape(words)}</p>' for kind, words in notes)
    return f'{SAID} data-text="{kept}">{shown}{below}</div>'.translate(_BREAKS)


def _code(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """A block of code. It does not name its language: gradio's highlighter would rewrite it then."""
    return f"<pre><code>{html.escape(tokens[place].content)}</code></pre>\n"


def _link_open(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """Its title tells the target, because its text may name another. Without a target it is no link."""
    target = html.escape(str(tokens[place].attrs.get("href", "")))
    where = f' href="{target}" title="{target}" target="_blank" rel="noopener noreferrer nofollow"'
    return f"<a{where}>" if target else "<a>"


def _markdown() -> MarkdownIt:
    """CommonMark with tables and strikethrough. Rules that bring in HTML, load something or hide text are off."""
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False})
    made.enable(["table", "strikethrough"])
    made.disable(["image", "entity", "html_inline", "html_block", "reference"])
    rules: dict[str, Callable[..., str]] = {"fence": _code, "code_block": _code, "link_open": _link_open}
    for name, rule in rules.items():
        made.add_render_rule(name, rule)
    made.validateLink = lambda url: _TARGET.match(url) is not None  # type: ignore[method-assign]
    return made


_MARKDOWN = _markdown()
# Empty cells that short rows of a table are filled with: 65,536 of them, as it comes, take two seconds.
import_module("markdown_it.rules_block.table").MAX_AUTOCOMPLETED_CELLS = 1000  # type: ignore[attr-defined]

CHATBOT: dict[str, Any] = {
    "render_markdown": False, "sanitize_html": True, "allow_tags": False, "latex_delimiters": [],
}  # fmt: skip
"""How gradio shows messages made by `bubble`: as HTML, which it neither reads as Markdown nor searches for formulas."""

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
  // A message of a chat is HTML that carries its text. Copying, editing and screen readers get the text.
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
  document.addEventListener("copy", (event) => {  // where a page may not use the clipboard, gradio copies from a box
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !copying() || !box.value.startsWith(BEGINS)) return;
    event.clipboardData.setData("text/plain", textOf(box.value));
    event.preventDefault();
  }, true);

  const seen = new WeakMap();
  const settle = () => {
    for (const box of document.querySelectorAll("textarea.edit-textarea")) {
      if (seen.has(box)) continue;
      seen.set(box, true);
      box.value = textOf(box.value);
      box.dispatchEvent(new Event("input", {bubbles: true}));
    }
    for (const part of document.querySelectorAll(`[aria-label*='${BEGINS}']`)) {
      const label = part.getAttribute("aria-label"), at = label.indexOf(BEGINS);
      if (seen.get(part) === label) continue;
      const said = message(label.slice(at));
      if (!said) continue;
      const notes = [...said.querySelectorAll(".note")].map((one) => one.textContent);
      const told = label.slice(0, at) + [said.dataset.text, ...notes].join(" ");
      seen.set(part, told);
      part.setAttribute("aria-label", told);
    }
  };
  new MutationObserver(settle).observe(document, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"],
  });
})();
</script>
"""
