"""A database that is brought from form to form keeps what is in it, and ends as the tables are written down."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Adapter, BaseModel, Database, Score
from adapterhub.hub.server.database.tables import Base
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue import making
from hub.server.catalogue.making import Made
from hub.server.postgres import on_both


@on_both
def test_the_migrations_make_the_tables_that_are_written_down(hub: Hub) -> None:
    with hub.database.engine.connect() as connection:
        there = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("words")},
        )
        assert compare_metadata(there, Base.metadata) == []


def test_a_table_that_is_made_anew_keeps_what_refers_to_it(hub: Hub, ann: Actor) -> None:
    """As Alembic changes a table of SQLite; that it takes its rows along, and their triggers, is what is at stake."""
    if not hub.database.is_sqlite:
        pytest.skip("PostgreSQL changes tables in place")
    making.fill(hub, [Made(merit=0.5), Made(private=True)])
    with hub.database.write() as session:
        for one in session.scalars(select(Adapter)):
            session.add(Score(repository_id=one.repository_id, oid=one.oid, metric="f1", value=0.5))
    backwards(hub.database, "0006")
    hub.database.migrate()
    with hub.database.read() as session:
        assert len(session.scalars(select(Adapter)).all()) == len(session.scalars(select(Score)).all()) == 2
        assert session.scalars(select(BaseModel)).all()
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
    with hub.database.engine.connect() as connection:
        triggers = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
    assert len(triggers) == 4 and inspect(hub.database.engine).has_table("words")


def backwards(database: Database, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    from adapterhub.hub.server.database import connecting

    config = Config()
    config.set_main_option("script_location", str(Path(connecting.__file__).with_name("migrations")))
    config.attributes["engine"] = database.engine
    command.downgrade(config, revision)
