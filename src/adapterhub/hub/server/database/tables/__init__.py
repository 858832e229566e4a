"""Every table; a change of one needs a migration."""

from adapterhub.hub.server.database.tables.accounts import Account, Membership, Session, Token
from adapterhub.hub.server.database.tables.activity import (
    AuditEntry,
    Delivery,
    DownloadDay,
    Job,
    Like,
    Mirror,
    Mirrored,
    RateWindow,
    Webhook,
)
from adapterhub.hub.server.database.tables.base import Base, now
from adapterhub.hub.server.database.tables.catalogue import (
    Adapter,
    AdapterTag,
    Alias,
    BaseModel,
    Change,
    Dataset,
    Score,
    Task,
)
from adapterhub.hub.server.database.tables.repositories import (
    Blob,
    Commit,
    FormerName,
    Piece,
    Ref,
    Repository,
    Tree,
    Upload,
)

__all__ = [
    "Account",
    "Adapter",
    "AdapterTag",
    "Alias",
    "AuditEntry",
    "Base",
    "BaseModel",
    "Change",
    "Blob",
    "Commit",
    "Dataset",
    "Delivery",
    "DownloadDay",
    "FormerName",
    "Job",
    "Like",
    "Membership",
    "Mirror",
    "Mirrored",
    "Piece",
    "RateWindow",
    "Ref",
    "Repository",
    "Score",
    "Session",
    "Task",
    "Token",
    "Tree",
    "Upload",
    "Webhook",
    "now",
]
