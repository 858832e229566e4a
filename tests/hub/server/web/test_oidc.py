"""Sign-in by another service: against a small one that runs here, and that can be made to lie."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx import Response
from joserfc import jwt
from joserfc.jwk import RSAKey

from adapterhub.hub.server import accounts
from hub.server.web.conftest import ADDRESS, Site

CLIENT, SECRET = "the-hub", "between us"


@dataclass
class Provider:
    """A service that knows one person, and signs with one key."""

    url: str
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    signs_with: RSAKey | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "7", "preferred_username": "Dora Ø", "name": "Dora"})
    asked: dict[str, str] = field(default_factory=dict)

    def authorise(self, address: str) -> str:
        """What the person does there: say yes; returns the code."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{self.url}/authorise?")
        return "the code"

    def token(self, form: dict[str, str], authorisation: str) -> dict[str, Any] | None:
        """What it gives for a code, if all is right."""
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        right = (
            authorisation == f"Basic {known}"
            and form["code"] == "the code"
            and form["redirect_uri"] == self.asked["redirect_uri"]
            and base64.urlsafe_b64encode(challenge).decode().rstrip("=") == self.asked["code_challenge"]
        )
        if not right:
            return None
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": self.asked["nonce"]}
        claims |= self.person | self.changes
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.signs_with or self.key)
        return {"access_token": "x", "token_type": "Bearer", "id_token": signed}


@pytest.fixture
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = made.url
            if self.path == "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorise", "token_endpoint": "token", "jwks_uri": "keys"}
                self.answer({"issuer": url, **{name: f"{url}/{path}" for name, path in names.items()}})
            else:
                self.answer({"keys": [made.key.as_dict(private=False)]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            given = made.token(form, self.headers.get("authorization", ""))
            self.answer(given or {"error": "invalid_grant"}, 200 if given else 400)

        def answer(self, content: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(make_site: Callable[..., Site], provider: Provider) -> Site:
    return make_site(oidc_issuer=provider.url, oidc_client_id=CLIENT, oidc_client_secret=SECRET)


def _sign_in(site: Site, provider: Provider, next: str = "/", **back: str) -> Response:
    there = site.get("/oidc/login", params={"next": next})
    assert there.status_code == 303, there.text
    code = provider.authorise(there.headers["location"])
    return site.get("/oidc/callback", params={"code": code, "state": provider.asked["state"], **back})


def test_a_person_whom_the_service_knows_gets_an_account_and_keeps_it(site: Site, provider: Provider) -> None:
    assert "Sign in with your organisation" in site.get("/login").text
    answer = _sign_in(site, provider, "/settings")
    assert answer.headers["location"] == "/settings"
    assert provider.asked["redirect_uri"] == f"{ADDRESS}/oidc/callback"
    assert "/Dora" in site.get("/settings").text
    provider.person["preferred_username"] = "somebody-else"
    again = site.new_browser()
    _sign_in(again, provider)
    assert "/Dora" in again.get("/").text and "somebody-else" not in again.get("/").text


def test_names_and_addresses_lead_to_no_account_that_is_there(site: Site, provider: Provider) -> None:
    with site.hub.database.write() as session:
        accounts.account(session, "ann").email = "ann@example.com"
    provider.person |= {"preferred_username": "ann", "email": "ann@example.com"}
    _sign_in(site, provider)
    assert "/ann-2" in site.get("/").text


def test_who_is_signed_in_links_the_account(site: Site, provider: Provider) -> None:
    site.sign_in("ann")
    _sign_in(site, provider, "/settings")
    assert "This account is linked" in site.get("/settings").text
    elsewhere = site.new_browser()
    _sign_in(elsewhere, provider)
    assert "/ann" in elsewhere.get("/").text
    provider.person["sub"] = "8"
    assert _sign_in(site, provider).status_code == 403


LIES: list[dict[str, Any]] = [
    {"aud": "another"},
    {"iss": "https://evil.test"},
    {"nonce": "of another sign-in"},
    {"exp": 1},
    {"sub": None},
]


@pytest.mark.parametrize("changes", LIES)
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    site: Site, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    assert _sign_in(site, provider).status_code == 403
    assert "Sign in" in site.get("/").text


def test_a_token_of_another_key_is_refused(site: Site, provider: Provider) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "1"})
    assert _sign_in(site, provider).status_code == 403


@pytest.mark.parametrize("back", [{"state": "wrong"}, {"code": "wrong"}, {"code": ""}, {"error": "access_denied"}])
def test_what_comes_back_otherwise_than_it_went_is_refused(
    site: Site, provider: Provider, back: dict[str, str]
) -> None:
    assert _sign_in(site, provider, **back).status_code == 403


def test_a_sign_in_that_another_browser_began_is_refused(site: Site, provider: Provider) -> None:
    begun = site.get("/oidc/login")
    code = provider.authorise(begun.headers["location"])
    victim = site.new_browser()
    answer = victim.get("/oidc/callback", params={"code": code, "state": provider.asked["state"]})
    assert answer.status_code == 403


def test_a_locked_account_stays_locked(site: Site, provider: Provider) -> None:
    _sign_in(site, provider)
    carol = site.new_browser().sign_in("carol")
    carol.post("/admin/disable", "/admin", name="Dora", disabled="yes")
    assert _sign_in(site.new_browser(), provider).status_code == 403


def test_it_leads_to_no_other_site_and_is_off_by_default(
    site: Site, provider: Provider, people: Any, tmp_path: Any
) -> None:
    assert _sign_in(site, provider, "https://evil.test").headers["location"] == "/"
    from hub.server.web.conftest import open_site

    plain = open_site(people, tmp_path / "plain")
    assert plain.get("/oidc/login").status_code == 404
    assert "organisation" not in plain.get("/login").text
    plain.hub.close()
