"""What a composition is made of, as its page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import compositions
from adapterhub.hub.server.web.repository_view import View, path_of


@dataclass(frozen=True)
class Member:
    """A part of a composition; one that comes with it has no page of its own."""

    name: str
    info: Mapping[str, Any]
    repository: str = ""
    commit: str = ""
    path: str = ""


@dataclass(frozen=True)
class Made:
    """A composition.

    Attributes:
        setup: how its members go together: an object with ``type`` and ``children``, which are names or such objects.
        members: in the order of the composition.
        problem: what is wrong, if a member is not there any more.
    """

    setup: Any = None
    members: list[Member] = field(default_factory=list)
    problem: str = ""

    @property
    def infos(self) -> dict[str, Any]:
        """What was found out about each member."""
        return {one.name: one.info for one in self.members}


def made_of(session: Session, actor: Actor, shown: View) -> Made | None:
    """What a composition is made of; None for anything else."""
    if shown.fact("kind") != "composition":
        return None
    config = shown.info.get("config") or {}
    if (inside := shown.info.get("members")) or "composition" not in config:
        members = [Member(name, info) for name, info in (inside or {}).items()]
        return Made(config.get("adapter_setup"), members)
    try:
        parts = compositions.parts_of(session, actor, shown.commit)
    except HubNotFoundError as error:
        return Made(config["composition"], problem=str(error))
    return Made(
        config["composition"],
        [
            Member(
                one.name,
                one.commit.info or {},
                one.repository.full_name,
                one.commit.oid,
                f"{path_of(one.repository)}/version/{one.commit.oid}",
            )
            for one in parts
        ],
    )
