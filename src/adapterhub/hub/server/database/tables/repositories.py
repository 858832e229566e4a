"""What is published: repositories with branches and tags over commits that never change."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub.hub.server.database.tables.accounts import Account
from adapterhub.hub.server.database.tables.base import Base, now


class Repository(Base):
    """A name with a history of files; ``key`` is ``owner/name`` in small letters."""

    __tablename__ = "repository"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    key: Mapped[str] = mapped_column(String(200), unique=True)
    private: Mapped[bool] = mapped_column(default=False)
    withdrawn: Mapped[str | None] = mapped_column(Text)  # why it should not be used any more
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now, index=True)
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # of all files that ever came into it, in bytes
    downloads: Mapped[int] = mapped_column(default=0)
    likes: Mapped[int] = mapped_column(default=0)
    owner: Mapped[Account] = relationship(lazy="joined", innerjoin=True)

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner.name}/{self.name}"


class FormerName(Base):
    """A name that a repository had, or that a deleted one has left: it is given to nobody else for a while."""

    __tablename__ = "former_name"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repository.id", ondelete="SET NULL"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created: Mapped[datetime] = mapped_column(default=now)


class Blob(Base):
    """The bytes of a file that the store holds; ``used`` is when it last came or was last asked for by a commit."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    oid: Mapped[str] = mapped_column(String(40), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[datetime] = mapped_column(default=now, index=True)


class Upload(Base):
    """Bytes that an account has brought and not yet put into a commit: to know their SHA-256 is not to have them."""

    __tablename__ = "upload"

    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(default=now, index=True)


class Piece(Base):
    """A part of what is on its way in, by the transfer that it belongs to: a part of a file, or a xorb of Xet."""

    __tablename__ = "piece"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    transfer: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256", ondelete="CASCADE"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(default=now, index=True)


class Tree(Base):
    """The files of commits by path: ``{path: [oid, sha256, size, large]}``; ``used`` is when the last one was made."""

    __tablename__ = "tree"

    oid: Mapped[str] = mapped_column(String(40), primary_key=True)
    files: Mapped[dict[str, Any]]
    used: Mapped[datetime] = mapped_column(default=now, index=True)


class Commit(Base):
    """A state of a repository; ``info`` is what was found out about the adapter in it."""

    __tablename__ = "commit"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    oid: Mapped[str] = mapped_column(String(40), primary_key=True)
    parent: Mapped[str | None] = mapped_column(String(40))
    tree_oid: Mapped[str] = mapped_column(ForeignKey("tree.oid"), index=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="SET NULL"))
    author: Mapped[str] = mapped_column(String(96))
    title: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=now)
    info: Mapped[dict[str, Any] | None]
    tree: Mapped[Tree] = relationship(lazy="joined", innerjoin=True)


class Ref(Base):
    """A branch or a tag; a tag never moves."""

    __tablename__ = "ref"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "oid"], ["commit.repository_id", "commit.oid"], ondelete="CASCADE"),
        Index("ix_ref_commit", "repository_id", "oid"),
    )

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(6), primary_key=True)  # "branch", "tag"
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    oid: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=now)
