"""What people settle for themselves, and what those who administer the server settle for them."""

import re
from collections.abc import Callable

from adapterhub.hub.server import accounts
from hub.server.web.conftest import PASSWORD, Site


def test_a_token_is_shown_once_and_works(site: Site) -> None:
    site.sign_in("ann")
    answer = site.post("/settings/tokens", "/settings/tokens", name="laptop", scope="write", days="30")
    value = re.search(r"ah_[0-9a-f]{72}", answer.text)
    assert value is not None
    assert answer.headers["cache-control"] == "no-store"
    again = site.get("/settings/tokens")
    assert value[0] not in again.text and "laptop" in again.text
    found = accounts.by_token(site.hub.database, value[0])
    assert (found.name, found.scope) == ("ann", "write")
    number = re.search(r'name="id" value="(\d+)"', again.text)
    assert number is not None
    site.sign_in("bob")
    site.post("/settings/tokens/revoke", "/settings/tokens", id=number[1])
    assert accounts.by_token(site.hub.database, value[0]).id is not None, "bob has revoked what is ann's"
    site.sign_in("ann")
    site.post("/settings/tokens/revoke", "/settings/tokens", id=number[1])
    assert accounts.by_token(site.hub.database, value[0]).id is None


def test_a_token_has_one_of_the_scopes(site: Site) -> None:
    site.sign_in("ann")
    answer = site.post("/settings/tokens", "/settings/tokens", name="x", scope="everything", days="")
    assert answer.status_code == 400 and 'role="alert"' in answer.text


def test_a_new_password_needs_the_present_one_and_ends_other_sessions(site: Site) -> None:
    site.sign_in("ann")
    elsewhere = site.new_browser().sign_in("ann")
    wrong = site.post(
        "/settings/password", "/settings", old="no", password="another good one", again="another good one"
    )
    assert wrong.status_code == 400 and "present password" in wrong.text
    site.post("/settings/password", "/settings", old=PASSWORD, password="another good one", again="another good one")
    assert site.get("/settings").status_code == 200
    assert elsewhere.get("/settings").status_code == 303
    assert elsewhere.post("/login", "/login", name="ann", password="another good one").status_code == 303


def test_an_organisation_has_members(site: Site) -> None:
    site.sign_in("ann")
    made = site.post("/settings/organisations", "/settings/organisations", name="lab", full_name="The Lab")
    path = made.headers["location"].partition("?")[0]
    assert site.post(f"{path}/members", path, user="bob", role="write").status_code == 303
    assert "bob" in site.get(path).text
    last = site.post(f"{path}/members", path, user="ann", role="read")
    assert last.status_code == 409 and "only owner" in last.text
    site.sign_in("bob")
    assert site.get(path).status_code == 403
    assert site.post(f"{path}/members", "/settings", user="bob", role="owner").status_code == 403


def test_only_who_administers_the_server_sees_it_all(site: Site) -> None:
    site.sign_in("ann")
    for path in ("/admin", "/admin/audit"):
        assert site.get(path).status_code == 403
    for path in ("/admin/quota", "/admin/disable", "/admin/users"):
        assert site.post(path, "/settings", name="bob", disabled="yes", megabytes="1").status_code == 403
    site.sign_in("carol")
    assert "bob" in site.get("/admin").text


def test_an_account_is_locked_and_let_in_again(site: Site) -> None:
    bob = site.new_browser().sign_in("bob")
    site.sign_in("carol")
    site.post("/admin/disable", "/admin", name="bob", disabled="yes")
    assert bob.get("/settings").status_code == 303
    site.post("/admin/disable", "/admin", name="bob", disabled="no")
    assert bob.sign_in("bob").get("/settings").status_code == 200
    assert site.post("/admin/disable", "/admin", name="carol", disabled="yes").status_code == 409
    assert "account.disable" in site.get("/admin/audit").text


def test_a_quota_is_a_number(site: Site) -> None:
    site.sign_in("carol")
    for text in ("many", "-1", "nan", "1e400"):
        assert site.post("/admin/quota", "/admin", name="bob", megabytes=text).status_code == 400, text
    site.post("/admin/quota", "/admin", name="bob", megabytes="2.5")
    with site.hub.database.read() as session:
        assert accounts.account(session, "bob").quota_bytes == 2_500_000
    site.post("/admin/quota", "/admin", name="bob", megabytes="")
    with site.hub.database.read() as session:
        assert accounts.account(session, "bob").quota_bytes is None


def test_a_webhook_is_made_and_removed(make_site: Callable[..., Site]) -> None:
    site = make_site(private_hosts=["127.0.0.1:9"]).sign_in("ann")
    page = "/settings/webhooks"
    for bad in ("", "ftp://example.com", "http://169.254.169.254/latest", "http://localhost:1"):
        answer = site.post(page, page, url=bad)
        assert 400 <= answer.status_code < 500 and 'role="alert"' in answer.text, bad
    made = site.post(page, page, url="http://127.0.0.1:9/", events="commit")
    secret = re.search(r"<code>([0-9a-f]{64})</code>", made.text)
    assert secret is not None and secret[1] not in site.get(page).text
    found = re.search(r'href="/settings/webhooks/(\d+)"', site.get(page).text)
    assert found is not None
    assert "ping" in site.get(f"{page}/{found[1]}").text
    bob = site.new_browser().sign_in("bob")
    assert bob.get(f"{page}/{found[1]}").status_code == 404
    assert bob.post(f"{page}/remove", page, id=found[1]).status_code == 404
    assert site.post(f"{page}/remove", page, id=found[1]).status_code == 303
    assert "no webhooks yet" in site.get(page).text
