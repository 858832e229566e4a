"""Markdown of strangers as HTML that does nothing but show."""

import re
from functools import cache
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt

_TAGS = {
    *("p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "s", "a", "img", "ul", "ol", "li"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}}
_LIMIT = 200_000
_HEADING = re.compile(r"(</?h)([1-6])(?=>)")
_OUTSIDE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|/|#")


def render(text: str, repository: str, commit: str) -> str:
    """What Markdown shows; pictures and links without a host are files of the repository, at that path, at a commit."""

    def attribute(tag: str, name: str, value: str) -> str | None:
        if (tag, name) not in (("img", "src"), ("a", "href")) or (tag == "a" and _OUTSIDE.match(value)):
            return value
        kind = "download" if tag == "img" else "blob"
        path = quote(value.removeprefix("./"), safe="/%#")
        return None if _OUTSIDE.match(value) else f"{repository}/{kind}/{commit}/{path}"

    return nh3.clean(
        _HEADING.sub(_below, _parser().render(text[:_LIMIT])),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener ugc",
    )


def _below(found: re.Match[str]) -> str:
    """The headings of a card stand below that of the page."""
    return f"{found[1]}{min(int(found[2]) + 1, 6)}"


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
