"""Sign-in by another service (OpenID Connect Core 1.0): the authorisation code flow with PKCE (RFC 7636).

An account is known by the issuer and the subject that it names. E-mail addresses and names that the service tells prove
nothing, and lead to no account that is there.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

import httpx
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubAccessError, HubError, HubUnreachableError
from adapterhub.hub.server import accounts, audit
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account
from adapterhub.hub.server.hub import Hub

_SCOPE = "openid profile email"
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_SECONDS, _LEEWAY = 10.0, 60
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Attempt:
    """A sign-in that has begun; the browser keeps it until it comes back."""

    state: str
    nonce: str
    verifier: str
    next: str


@dataclass(frozen=True)
class Identity:
    """Whom the service has recognised: ``subject`` for ever, the rest as it is now."""

    subject: str
    name: str
    full_name: str
    email: str


def begin(hub: Hub, callback: str, next: str) -> tuple[str, Attempt]:
    """Where to send a browser, and what it has to keep; ``callback`` is where it comes back.

    Raises:
        HubUnreachableError: if the service does not answer.
    """
    provider = _described(hub)
    attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), generate_token(48), next)
    with _client(hub, callback) as client:
        address, _ = client.create_authorization_url(
            provider["authorization_endpoint"],
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
        )
    return str(address), attempt


def finish(hub: Hub, callback: str, attempt: Attempt, state: str, code: str) -> Identity:
    """Whom the service has recognised, by the code that the browser brought back.

    Raises:
        HubAccessError: if the code, or what the service answers for it, is not good.
        HubUnreachableError: if the service does not answer.
    """
    if not secrets.compare_digest(state.encode(), attempt.state.encode()) or not code:
        raise HubAccessError("this sign-in was not begun here, or not in this browser: begin again")
    provider = _described(hub)
    try:
        with _client(hub, callback) as client:
            token = client.fetch_token(provider["token_endpoint"], code=code, code_verifier=attempt.verifier)
    except OAuthError as error:
        raise HubAccessError(f"the service does not take this sign-in ({error.error}): begin again") from error
    except (httpx.HTTPError, ValueError) as error:
        raise HubUnreachableError(f"{hub.settings.oidc_issuer} does not answer: {error}") from error
    claims = _claims(hub, provider, str(token.get("id_token", "")), attempt.nonce)
    email = str(claims.get("email", ""))
    name = str(claims.get("preferred_username") or claims.get("nickname") or email.partition("@")[0] or "user")
    return Identity(f"{provider['issuer']}#{claims['sub']}"[:255], name, str(claims.get("name", "")), email)


def account_of(session: Session, identity: Identity, actor: Actor) -> Account:
    """The account of whom the service has recognised: that which it was linked to, that of ``actor``, or a new one.

    Raises:
        HubAccessError: if the account is locked, or linked to somebody else.
    """
    found = session.scalar(select(Account).where(Account.oidc_subject == identity.subject))
    if found is None and actor.id is not None:
        found = session.get_one(Account, actor.id)
        if found.oidc_subject is not None:
            raise HubAccessError(f"{found.name} signs in as somebody else at this service: sign out first")
        found.oidc_subject = identity.subject
        audit.record(session, actor, "account.link", found.key)
    elif found is None:
        found = accounts.add_user(session, _free_name(session, identity.name), None)
        found.full_name, found.email = identity.full_name[:200], identity.email[:200]
        found.oidc_subject = identity.subject
        audit.record(session, Actor(found.id, found.name), "account.create", found.key, by="oidc")
    if found.disabled:
        raise HubAccessError(f"the account {found.name} is locked: ask those who administer this hub")
    session.flush()
    return found


def _described(hub: Hub) -> dict[str, Any]:
    """What the service says of itself (OpenID Connect Discovery 1.0)."""
    issuer = hub.settings.oidc_issuer
    found = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise HubAccessError(f"{issuer} calls itself {found.get('issuer')!r}: set ADAPTERHUB_OIDC_ISSUER to that")
    return found


def _claims(hub: Hub, provider: dict[str, Any], token: str, nonce: str) -> dict[str, Any]:
    """What an id token says, whose signature and addressee are right."""
    registry = jwt.JWTClaimsRegistry(
        leeway=_LEEWAY,
        iss={"essential": True, "value": provider["issuer"]},
        aud={"essential": True, "value": hub.settings.oidc_client_id},
        nonce={"essential": True, "value": nonce},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        read = jwt.decode(token, KeySet.import_key_set(_get(provider["jwks_uri"])), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        registry.validate(read.claims)
    except (JoseError, ValueError) as error:
        raise HubAccessError(f"the service signs in nobody: its token is not good ({error})") from error
    return read.claims


def _client(hub: Hub, callback: str) -> OAuth2Client:
    return OAuth2Client(
        hub.settings.oidc_client_id,
        hub.settings.oidc_client_secret.get_secret_value(),
        scope=_SCOPE,
        redirect_uri=callback,
        code_challenge_method="S256",
        timeout=_SECONDS,
    )


def _get(address: str) -> dict[str, Any]:
    try:
        answer = httpx.get(address, timeout=_SECONDS).raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise HubUnreachableError(f"{address} does not answer: {error}") from error
    return found


def _free_name(session: Session, wanted: str) -> str:
    """A name that nobody has, as near as can be to the one that the service tells."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", wanted).strip("-")[:_NAME_LENGTH].strip("-") or "user"
    for number in range(1, 1000):
        name = plain if number == 1 else f"{plain}-{number}"
        try:
            accounts.check_free(session, name)
        except HubError:
            continue
        return name
    raise HubAccessError(f"there are very many accounts called {plain}: ask those who administer this hub for one")
