"""Words are asked for once by whoever changes none, and anew after a change."""

from typing import Any

from sqlalchemy import event

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import words
from adapterhub.hub.server.catalogue.words import Texts
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue import making
from hub.server.catalogue.making import Made
from hub.server.postgres import on_both


@on_both
def test_a_session_asks_once_until_words_change(hub: Hub, ann: Actor) -> None:
    asked = list[str]()

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("SELECT") and "FROM words" in statement:
            asked.append(statement)

    event.listen(hub.database.engine, "before_cursor_execute", note)
    (one,) = making.fill(hub, [Made()])
    with hub.database.write() as session:

        def found(question: str, *, in_topic: bool = False) -> list[int]:
            ids = words.find(session, question, in_topic=in_topic)
            assert ids is not None
            return ids.tolist()

        words.put(session, one.id, Texts("first", "second"))
        for question, expected in (("first", [one.id]), ("fir", [one.id]), ("fir ", []), ("first", [one.id])):
            assert found(question) == expected
        assert len(asked) == 3
        assert found("second", in_topic=True) == []
        words.put(session, one.id, Texts("second", "first"))
        assert found("second", in_topic=True) == [one.id]
        words.forget(session, one.id)
        assert found("second", in_topic=True) == []
