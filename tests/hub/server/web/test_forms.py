"""A form does something only if this site has shown it to the one who sends it."""

import pytest
from fastapi.routing import APIRoute
from httpx import Response

from adapterhub.hub.server.web import pages
from hub.server.web.conftest import PASSWORD, Site

POSTS = sorted(
    {
        route.path
        for router in pages.ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "POST" in route.methods
    }
)


def test_there_are_forms() -> None:
    assert {"/login", "/logout", "/settings/password", "/admin/quota", "/{owner}/{name}/settings", "/upload"} <= set(
        POSTS
    )


def _send(site: Site, path: str, word: str, headers: dict[str, str] | None = None) -> Response:
    files = {"files": {"x": ("", b"")}} if path == "/upload" else {}
    path = path.replace("{owner}", "ann").replace("{name}", "one")
    return site.client.post(path, data={"csrf": word}, headers=headers, follow_redirects=False, **files)  # type: ignore[arg-type]


def test_without_the_word_of_the_session_nothing_happens(site: Site) -> None:
    site.sign_in("carol")
    other = site.new_browser().word()
    for path in POSTS:
        for word in ("", "wrong", other):
            answer = _send(site, path, word)
            assert answer.status_code == 403 and "out of date" in answer.text, (path, word)


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
def test_another_site_cannot_send_it(site: Site, name: str) -> None:
    site.sign_in("carol")
    word = site.word("/settings")
    values = {
        "Origin": ("https://evil.test", "null", "http://hub.test.evil.test"),
        "Sec-Fetch-Site": ("cross-site", "same-site"),
    }
    for path in POSTS:
        for value in values[name]:
            answer = _send(site, path, word, {name: value})
            assert answer.status_code == 403 and "another site" in answer.text, (path, value)


def test_a_stranger_cannot_be_signed_in_by_another_site(site: Site) -> None:
    fields = {"name": "ann", "password": PASSWORD, "csrf": site.word()}
    assert site.client.post("/login", data=fields, headers={"Origin": "https://evil.test"}).status_code == 403
    elsewhere = site.new_browser()
    assert elsewhere.client.post("/login", data=fields).status_code == 403
    ours = site.client.post("/login", data=fields, headers={"Origin": "http://hub.test"}, follow_redirects=False)
    assert ours.status_code == 303


def test_a_token_opens_no_page(site: Site) -> None:
    from adapterhub.hub.server import accounts

    with site.hub.database.write() as session:
        token = accounts.new_token(session, accounts.account(session, "ann"), "t", "admin")
    answer = site.get("/settings", headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["location"].startswith("/login")


def test_a_form_has_a_limit(site: Site) -> None:
    site.sign_in("ann")
    fields = {"csrf": site.word("/settings"), "about": "a" * (1 << 20)}
    assert site.client.post("/settings/profile", data=fields).status_code == 413
    assert site.client.post("/settings/profile", json=fields).status_code == 400
