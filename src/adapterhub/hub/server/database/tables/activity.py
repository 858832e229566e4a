"""What happens on a hub: likes, downloads, webhooks, work to be done, and the record of who did what."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from adapterhub.hub.server.database.tables.base import Base, now


class Like(Base):
    """A user likes a repository."""

    __tablename__ = "like"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)
    created: Mapped[datetime] = mapped_column(default=now)


class DownloadDay(Base):
    """How often the weights of a repository were fetched on a day."""

    __tablename__ = "download_day"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)


class Webhook(Base):
    """An address that is told of what happens in the repositories of an account; ``secret`` signs what it gets."""

    __tablename__ = "webhook"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)
    events: Mapped[list[Any]]
    active: Mapped[bool] = mapped_column(default=True)
    created: Mapped[datetime] = mapped_column(default=now)


class Delivery(Base):
    """One message of a webhook, and what became of it."""

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(32))
    body: Mapped[dict[str, Any]]
    status: Mapped[int | None]
    error: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    sent: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(default=now, index=True)


class Job(Base):
    """Work that any worker may take: it is one worker's while ``started`` is recent, until it is ``finished``.

    Of a ``key`` there is one job at a time that is not finished. One that is given up has an ``error``.
    """

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_due", "finished", "due"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    key: Mapped[str | None] = mapped_column(String(128), unique=True)
    arguments: Mapped[dict[str, Any]]
    due: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")


class RateWindow(Base):
    """How many requests of somebody there were since a minute began."""

    __tablename__ = "rate_window"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    minute: Mapped[int] = mapped_column(primary_key=True, index=True)
    count: Mapped[int] = mapped_column(default=0)


class AuditEntry(Base):
    """Who did what, when; each entry holds a digest over itself and the one before, so that none can be taken out."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(default=now)
    actor: Mapped[str] = mapped_column(String(96))
    action: Mapped[str] = mapped_column(String(48), index=True)
    subject: Mapped[str] = mapped_column(String(255), index=True)
    detail: Mapped[dict[str, Any] | None]
    digest: Mapped[str] = mapped_column(String(64))


class Mirror(Base):
    """Adapters of another hub of which a copy is kept here: those whose names match, or that a search finds."""

    __tablename__ = "mirror"

    id: Mapped[int] = mapped_column(primary_key=True)
    upstream: Mapped[str] = mapped_column(Text)
    pattern: Mapped[str] = mapped_column(String(255))  # "owner/na*"; "?words" for a search
    into: Mapped[str | None] = mapped_column(String(96))  # the account that owns the copies; None: as upstream
    created: Mapped[datetime] = mapped_column(default=now)
    refreshed: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(Text, default="")


class Mirrored(Base):
    """A repository of another hub, and how far its copy is: ``refs`` has what upstream's were at by ``kind/name``."""

    __tablename__ = "mirrored"

    mirror_id: Mapped[int] = mapped_column(ForeignKey("mirror.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)  # upstream
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repository.id", ondelete="SET NULL"), index=True)
    refs: Mapped[dict[str, Any]]
    skipped: Mapped[dict[str, Any]]  # files that are left out, and why
    error: Mapped[str] = mapped_column(Text, default="")
    refreshed: Mapped[datetime] = mapped_column(default=now)
