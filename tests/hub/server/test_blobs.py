"""What is said to be there is there, wherever the server is killed while bytes come in."""

from typing import Any

import pytest

from adapterhub.hub.server import blobs, commits, pieces, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Piece, Upload
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.store import LocalStore


class Killed(BaseException):
    """The end of the process, as far as what it would have done afterwards goes."""


def killed(*arguments: Any) -> None:
    raise Killed


@pytest.mark.parametrize("step", ["put", "record"])
def test_bytes_that_were_cut_off_are_sent_again(
    hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    data = b"some text"
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore if step == "put" else blobs, step, killed)
        with pytest.raises(Killed):
            blobs.receive(hub, ann, data, "a.txt")
    with hub.database.read() as session:
        assert session.query(Upload).count() == 0
    sha256 = blobs.receive(hub, ann, data, "a.txt")
    commits.publish(hub, ann, "ann", "notes", "main", [Put("a.txt", sha256)], Message("Put"))
    assert hub.store.open(sha256).read() == data


def test_a_part_that_was_cut_off_is_not_there(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "put", killed)
    with pytest.raises(Killed), blobs.arriving(hub, [b"part"], "a part") as file:
        pieces.keep(hub, ann, "transfer", "1", file)
    assert pieces.find(hub, ann, "transfer", "1") is None
    with hub.database.read() as session:
        assert session.query(Piece).count() == 0
