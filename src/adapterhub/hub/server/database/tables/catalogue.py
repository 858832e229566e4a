"""What adapters are found by: tasks and languages, data sets, base models, scores; one row an adapter."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub.hub.server.database.tables.base import Base, now
from adapterhub.hub.server.database.tables.repositories import Repository


class Task(Base):
    """A task, or a language; ``slug`` is what identifiers call it (``sentiment``, ``de``)."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))  # "task", "language"
    slug: Mapped[str] = mapped_column(String(96), unique=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")


class Dataset(Base):
    """A data set of a task, or a corpus of a language; of any depth, as ``parent`` says.

    One that private adapters alone are for is not ``public``: its name is nobody else's business.
    """

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("task_id", "slug"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    slug: Mapped[str] = mapped_column(String(96), index=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    citation: Mapped[str] = mapped_column(Text, default="")
    url: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(Text, default="")  # its name on the Hugging Face Hub
    language: Mapped[str] = mapped_column(String(16), default="")
    metric: Mapped[str] = mapped_column(String(64), default="")
    higher_is_better: Mapped[bool] = mapped_column(default=True)
    public: Mapped[bool] = mapped_column(default=True, server_default=true())
    task: Mapped[Task] = relationship(lazy="joined", innerjoin=True)


class BaseModel(Base):
    """A base model as far as it is known; several rows of one name are several revisions or weights of it.

    One that private adapters alone are for is not ``public``: its name is nobody else's business.
    """

    __tablename__ = "base_model"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(255), index=True)  # one for all names that the model has
    revision: Mapped[str | None] = mapped_column(String(96))
    identity: Mapped[str] = mapped_column(String(64), unique=True)  # a digest of all that is known
    model_type: Mapped[str] = mapped_column(String(64), default="")
    hidden_size: Mapped[int | None]
    layers: Mapped[int | None]
    vocab_size: Mapped[int | None]
    fingerprint: Mapped[dict[str, Any] | None]
    config: Mapped[dict[str, Any] | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("base_model.id", ondelete="SET NULL"))
    relation: Mapped[str] = mapped_column(String(16), default="")  # to its parent: "finetune", "quantized", ...
    public: Mapped[bool] = mapped_column(default=False, server_default=true())
    created: Mapped[datetime] = mapped_column(default=now)


class Adapter(Base):
    """What the newest commit of the main branch of a repository is: the row that is searched."""

    __tablename__ = "adapter"
    __table_args__ = (
        Index("ix_adapter_browse", "dataset_id", "base_id", "method"),
        Index("ix_adapter_base", "base_id", "method"),
        Index("ix_adapter_task", "task_id", "base_id", "method"),
    )

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    oid: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(12), default="adapter")  # "adapter", "fusion", "composition"
    format: Mapped[str] = mapped_column(String(12))
    method: Mapped[str] = mapped_column(String(32), index=True)
    config_hash: Mapped[str] = mapped_column(String(40), default="")
    content: Mapped[str] = mapped_column(String(64), default="")  # a digest of its weights and configuration
    base_id: Mapped[int | None] = mapped_column(ForeignKey("base_model.id"))
    task_id: Mapped[int | None] = mapped_column(ForeignKey("task.id", ondelete="SET NULL"))
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    language: Mapped[str] = mapped_column(String(16), default="", index=True)
    license: Mapped[str] = mapped_column(String(64), default="")
    head: Mapped[str] = mapped_column(String(32), default="")
    parameters: Mapped[int] = mapped_column(BigInteger, default=0)
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # of the files, in bytes
    title: Mapped[str] = mapped_column(Text, default="")
    summary: Mapped[str] = mapped_column(Text, default="")
    score: Mapped[float | None]  # on its data set, by that data set's metric: verified if there is one, else claimed
    merit: Mapped[float | None]  # the score, or minus the score where less is better
    verified: Mapped[bool] = mapped_column(default=False)
    is_default: Mapped[bool] = mapped_column(default=False)  # of its data set and base model, as a curator says
    origin: Mapped[dict[str, Any] | None]  # of a reference, whose files lie elsewhere: where, and what is known of them
    repository: Mapped[Repository] = relationship(lazy="joined", innerjoin=True)
    base: Mapped[BaseModel | None] = relationship(lazy="joined")
    task: Mapped[Task | None] = relationship(lazy="joined")
    dataset: Mapped[Dataset | None] = relationship(lazy="joined")


class Change(Base):
    """When the row of an adapter, or of its repository, last changed; triggers write it (see the migrations).

    ``number`` grows with every transaction: of PostgreSQL it is the number of that.
    """

    __tablename__ = "change"

    repository_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger, index=True)


class Member(Base):
    """An adapter that a composition is made of, as the main branch of that has it; ``name`` is that in it."""

    __tablename__ = "member"

    composition_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    oid: Mapped[str] = mapped_column(String(40))


class AdapterTag(Base):
    """A tag of an adapter, as its card has it."""

    __tablename__ = "adapter_tag"
    __table_args__ = (Index("ix_adapter_tag_tag", "tag", "repository_id"),)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(255), primary_key=True)


class Alias(Base):
    """Another identifier of an adapter, ``@ukp/bert-base-uncased_sst-2`` say."""

    __tablename__ = "alias"

    spec: Mapped[str] = mapped_column(String(255), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    revision: Mapped[str | None] = mapped_column(String(255))


class Score(Base):
    """A result on one data set, of whichever commits have this ``content``; a claim unless it was ``verified``."""

    __tablename__ = "score"
    __table_args__ = (Index("ix_score_dataset", "dataset_id", "metric"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), index=True)
    oid: Mapped[str] = mapped_column(String(40))
    content: Mapped[str] = mapped_column(String(64), default="")
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    data: Mapped[str] = mapped_column(Text, default="")  # the data set as the card calls it
    split: Mapped[str] = mapped_column(String(32), default="")
    metric: Mapped[str] = mapped_column(String(64))
    value: Mapped[float]
    low: Mapped[float | None]  # of the 95 % confidence interval
    high: Mapped[float | None]
    rows: Mapped[int | None]
    verified: Mapped[bool] = mapped_column(default=False)  # measured by somebody who does not belong to the owner
    verifier_id: Mapped[int | None] = mapped_column(ForeignKey("account.id", ondelete="SET NULL"))
    evidence: Mapped[dict[str, Any] | None]  # data revision and SHA-256, versions, seed, base fingerprint
    created: Mapped[datetime] = mapped_column(default=now)
