"""Who may come in, how, and that no other site can do it for them."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.setup import setup_code
from hub.server.web.conftest import ADDRESS, PASSWORD, Site


def test_the_cookie_of_a_session_is_for_this_site_alone(site: Site) -> None:
    answer = site.post("/login", "/login", name="ann", password=PASSWORD)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
    assert "Signed in as" in site.get("/").text


def test_the_cookie_is_sent_over_https_alone_where_the_hub_is_there(make_site: Callable[..., Site]) -> None:
    site = make_site(public_url="https://hub.test")
    site.client.base_url = "https://hub.test"  # type: ignore[assignment]
    assert "; secure" in site.post("/login", "/login", name="ann", password=PASSWORD).headers["set-cookie"].lower()


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_name_and_a_wrong_password_are_told_alike(site: Site, name: str, password: str) -> None:
    answer = site.post("/login", "/login", name=name, password=password)
    assert answer.status_code == 401
    assert "The name or the password is not right." in answer.text


def test_ten_attempts_a_minute_are_all(site: Site) -> None:
    word = site.word()
    tried = [
        site.client.post("/login", data={"csrf": word, "name": "ann", "password": str(one)}).status_code
        for one in range(11)
    ]
    assert tried == [401] * 10 + [429]
    right = site.client.post("/login", data={"csrf": word, "name": "ann", "password": PASSWORD})
    assert right.status_code == 429
    assert site.post("/login", "/login", name="bob", password=PASSWORD).status_code == 303


def test_who_signs_out_is_out_on_the_server_too(site: Site) -> None:
    site.sign_in("ann")
    kept = dict(site.client.cookies)
    assert site.post("/logout", "/").status_code == 303
    thief = site.new_browser()
    thief.client.cookies.update(kept)
    assert "Sign in" in thief.get("/").text


@pytest.mark.parametrize(
    "next", ["https://evil.test", "//evil.test", "/\\evil.test", "javascript:alert(1)", "\\/evil.test", "/\t/evil.test"]
)
def test_signing_in_leads_to_no_other_site(site: Site, next: str) -> None:
    answer = site.post("/login", "/login", name="ann", password=PASSWORD, next=next)
    assert answer.headers["location"] == "/"
    assert site.get("/login", params={"next": next}).headers["location"] == "/"


def test_signing_in_leads_back(site: Site) -> None:
    assert site.get("/settings").headers["location"] == "/login?next=/settings"
    answer = site.post("/login", "/login?next=/settings", name="ann", password=PASSWORD, next="/settings")
    assert answer.headers["location"] == "/settings"


def test_nobody_registers_where_the_hub_is_closed(site: Site) -> None:
    assert site.get("/register").status_code == 404
    assert site.post("/register", "/login", name="eve", password=PASSWORD, again=PASSWORD).status_code == 404
    assert 'href="/register"' not in site.get("/").text


def test_anyone_registers_where_it_is_open(make_site: Callable[..., Site]) -> None:
    site = make_site(open_registration=True)
    refused = [
        ("ann", PASSWORD, PASSWORD),
        ("eve", "short", "short"),
        ("eve", PASSWORD, "other"),
        ("api", PASSWORD, PASSWORD),
    ]
    for name, password, again in refused:
        answer = site.post("/register", "/register", name=name, password=password, again=again)
        assert answer.status_code in (400, 409) and 'role="alert"' in answer.text, name
    answer = site.post("/register", "/register", name="eve", password=PASSWORD, again=PASSWORD)
    assert answer.headers["location"] == "/settings?said=welcome"
    assert "Welcome." in site.get("/settings?said=welcome").text


def test_the_first_user_needs_the_code_and_administers(tmp_path: object) -> None:
    app = create_app(Settings(directory=tmp_path))  # type: ignore[arg-type]
    site = Site(app.state.hub, TestClient(app, base_url=ADDRESS))
    code = setup_code(site.hub)
    assert site.get("/setup").status_code == 403
    fields = {"name": "carol", "password": PASSWORD, "again": PASSWORD}
    assert site.post("/setup", "/login", code="wrong", **fields).status_code == 403
    assert site.post("/setup", f"/setup?code={code}", code=str(code), **fields).status_code == 303
    assert site.get("/admin").status_code == 200
    assert site.get("/setup", params={"code": code}).headers["location"] == "/login"
    assert site.post("/setup", "/settings", code=str(code), **fields).status_code == 403
    site.hub.close()
