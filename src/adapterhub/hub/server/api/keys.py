"""The public keys that accounts sign their adapters with."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from adapterhub.hub.server import accounts, signing_keys
from adapterhub.hub.server.api.accounts import Name, Number
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import SigningKey

router = APIRouter(prefix="/api/v1", tags=["keys"])


class NewKey(BaseModel):
    """A key to sign with from now on."""

    name: str = Field(min_length=1, max_length=96)
    public_key: str = Field(min_length=1, max_length=2000, description="Of an elliptic curve, as PEM")


class KeyView(BaseModel):
    """A public key of an account."""

    id: int
    name: str
    public_key: str = Field(description="As PEM")
    fingerprint: str = Field(description="The SHA-256 of that")
    created: datetime

    @classmethod
    def of(cls, one: SigningKey) -> "KeyView":
        """From its row."""
        return cls(id=one.id, name=one.name, public_key=one.pem, fingerprint=one.fingerprint, created=one.created)


@router.get("/accounts/{name}/keys", responses=problems(404))
def keys(hub: TheHub, name: Name) -> list[KeyView]:
    """The keys that an account signs with, the oldest first."""
    with hub.database.read() as session:
        return [KeyView.of(one) for one in signing_keys.of(session, accounts.account(session, name))]


@router.post("/accounts/{name}/keys", status_code=201, responses=problems(400, 401, 403, 404, 409))
def add_key(hub: TheHub, actor: TheActor, name: Name, wanted: NewKey) -> KeyView:
    """Let what is signed with a key count as signed by an account."""
    with hub.database.write() as session:
        made = signing_keys.add(session, actor, accounts.account(session, name), wanted.name, wanted.public_key)
        return KeyView.of(made)


@router.delete("/keys/{number}", status_code=204, responses=problems(401, 403, 404))
def remove_key(hub: TheHub, actor: TheActor, number: Number) -> None:
    """Take that back."""
    with hub.database.write() as session:
        signing_keys.remove(session, actor, number)
