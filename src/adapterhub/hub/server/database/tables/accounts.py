"""Who uses a hub: users and organisations under one roof of names, and how a user proves to be one."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub.hub.server.database.tables.base import Base, now


class Account(Base):
    """A user or an organisation; ``key`` is the name in small letters, by which no two may be alike."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(96))
    key: Mapped[str] = mapped_column(String(96), unique=True)
    kind: Mapped[str] = mapped_column(String(12), default="user")  # "user", "organisation"
    full_name: Mapped[str] = mapped_column(Text, default="")
    email: Mapped[str] = mapped_column(Text, default="")
    about: Mapped[str] = mapped_column(Text, default="")
    password_hash: Mapped[str | None] = mapped_column(Text)
    oidc_subject: Mapped[str | None] = mapped_column(String(255), unique=True)
    is_admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)  # None: as the settings say
    created: Mapped[datetime] = mapped_column(default=now)


class Membership(Base):
    """A user in an organisation; ``role`` is ``owner``, ``write`` or ``read``."""

    __tablename__ = "membership"

    organisation_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(8))
    organisation: Mapped[Account] = relationship(foreign_keys=[organisation_id])
    user: Mapped[Account] = relationship(foreign_keys=[user_id])


class Token(Base):
    """A personal token: only the SHA-256 of it is kept; ``scope`` is ``read``, ``write`` or ``admin``."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(8))
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime | None]
    used: Mapped[datetime | None]
    account: Mapped[Account] = relationship()


class SigningKey(Base):
    """A public key that an account signs its adapters with: as PEM, and the SHA-256 of that."""

    __tablename__ = "signing_key"
    __table_args__ = (UniqueConstraint("account_id", "fingerprint"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(96))
    pem: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    created: Mapped[datetime] = mapped_column(default=now)
    account: Mapped[Account] = relationship()


class Session(Base):
    """Somebody signed in on the web site: the SHA-256 of a cookie, and what forms have to bring along."""

    __tablename__ = "session"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    account: Mapped[Account] = relationship()
