"""What can be loaded into a base model: asked by its name, or by its config.json."""

import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import AdapterHubError, HubIdError
from adapterhub.hub.compatibility import Level
from adapterhub.hub.server.catalogue import compatible
from adapterhub.hub.server.catalogue.compatible import Group
from adapterhub.hub.server.catalogue.facets import facets
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web.forms import Form
from adapterhub.hub.server.web.items import Item, item
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import TheVisitor, Visitor

router = APIRouter(prefix="/models")
_ITEMS, _REASONS = 8, 6  # of each verdict


@dataclass(frozen=True)
class Fit:
    """What fits a model equally well: how many adapters, why, what they were trained on, and some of them."""

    level: Level
    count: int
    reasons: list[str]
    bases: list[str]
    items: list[Item]


@router.get("")
def models_page(request: Request, visitor: TheVisitor, hub: TheHub) -> Response:
    """All base models that there are adapters for."""
    return _models(request, visitor, hub)


@router.post("")
def paste(request: Request, visitor: TheVisitor, form: Form, hub: TheHub) -> Response:
    """What fits the model of a config.json that was pasted."""
    try:
        config = _config(form["config"])
        with hub.database.read() as session:
            base = compatible.asked(session, name=form["name"] or None, config=config)
            found = compatible.groups(session, visitor.actor, base, limit=_ITEMS)
            title = form["name"] or f"Your {config.get('model_type', '')} model".replace("  ", " ")
            return _model(request, visitor, title, found, config, pasted=True)
    except AdapterHubError as error:
        return _models(request, visitor, hub, form["config"], str(error), 422)


@router.get("/{name:path}")
def model_page(request: Request, visitor: TheVisitor, hub: TheHub, name: str) -> Response:
    """What fits a model by its name, by verdict."""
    with hub.database.read() as session:
        base = compatible.asked(session, name=name)
        found = compatible.groups(session, visitor.actor, base, limit=_ITEMS)
        known = {"model_type": base.model_type, "hidden_size": base.hidden_size, "layers": base.layers}
        known["vocab_size"] = base.vocab_size
        return _model(request, visitor, base.names[0] if base.names else name, found, known)


def _models(
    request: Request, visitor: Visitor, hub: Hub, config: str = "", problem: str = "", code: int = 200
) -> Response:
    with hub.database.read() as session:
        found = facets(session, visitor.actor, names=("base",))["base"]
    return page(request, visitor, "models", status=code, bases=found, config=config, problem=problem)


def _model(
    request: Request, visitor: Visitor, title: str, found: list[Group], facts: dict[str, Any], *, pasted: bool = False
) -> Response:
    shown = ("model_type", "hidden_size", "layers", "num_hidden_layers", "vocab_size")
    return page(
        request,
        visitor,
        "model",
        title=title,
        pasted=pasted,
        facts=[(name, facts[name]) for name in shown if isinstance(facts.get(name), str | int)],
        fits=[_fit(one, title) for one in found],
        total=sum(group.count for group in found if group.level > Level.SHAPE),
        in_shape=sum(group.count for group in found if group.level is Level.SHAPE),
    )


def _fit(group: Group, title: str) -> Fit:
    reasons, bases = dict[str, None](), dict[str, str]()
    for one in group.trained:
        reasons.setdefault("; ".join(one.verdict.reasons))
        bases.setdefault(one.base.key, one.base.name)
    items = [item(one) for one in group.page.adapters]
    return Fit(group.level, group.count, list(reasons)[:_REASONS], list(bases.values())[:_REASONS], items)


def _config(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HubIdError(f"this is no config.json: {error}") from error
    if not isinstance(found, dict):
        raise HubIdError("this is no config.json: it has to be a JSON object")
    return found
