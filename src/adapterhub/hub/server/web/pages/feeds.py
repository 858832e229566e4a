"""New adapters as a feed (Atom, RFC 4287)."""

from xml.etree import ElementTree as Xml

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.hub.server.actor import STRANGER
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.search import search
from adapterhub.hub.server.context import TheHub, public_url
from adapterhub.hub.server.database import now
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.items import Item, item

router = APIRouter()
_NAMESPACE = "http://www.w3.org/2005/Atom"
_ENTRIES = 50
_NO_TEXT = {number: None for number in range(32) if number not in (9, 10, 13)}  # what XML 1.0 cannot hold


@router.get("/feed.xml")
def feed(request: Request, hub: TheHub, task: str = "", base: str = "") -> Response:
    """The newest public adapters, of a task or a base model if these are given."""
    filters = Filters(task=(task,) if task else (), base=(base,) if base else ())
    with hub.database.read() as session:
        found = [item(one) for one in search(session, STRANGER, filters, sort="created", limit=_ENTRIES).adapters]
        made = {one.path: one.updated for one in found}
    root, address = Xml.Element("feed", xmlns=_NAMESPACE), public_url(request)
    _put(root, "title", "New adapters")
    _put(root, "id", f"{address}/feed.xml")
    _put(root, "updated", max(made.values(), default=now()).isoformat())
    Xml.SubElement(root, "link", href=f"{address}/feed.xml", rel="self")
    Xml.SubElement(root, "link", href=address)
    for one in found:
        _entry(root, address, one)
    content = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(content, media_type="application/atom+xml", headers={"Cache-Control": "public, max-age=300"})


def _entry(root: Xml.Element, address: str, one: Item) -> None:
    entry = Xml.SubElement(root, "entry")
    _put(entry, "title", f"{one.owner}/{one.name}")
    _put(entry, "id", f"{address}{one.path}")
    Xml.SubElement(entry, "link", href=f"{address}{one.path}")
    _put(entry, "updated", one.updated.isoformat())
    _put(Xml.SubElement(entry, "author"), "name", one.owner)
    facts = [wording.method(one.method), f"for {one.base}" if one.base else "", one.topic, one.summary]
    _put(entry, "summary", ". ".join(fact for fact in facts if fact))


def _put(parent: Xml.Element, name: str, text: str) -> None:
    Xml.SubElement(parent, name).text = text.translate(_NO_TEXT)
