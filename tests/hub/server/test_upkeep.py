"""What those who run a hub ask and do."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from adapterhub.cli.app import run
from adapterhub.hub.server import accounts, audit
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.running import Running


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command about a hub, within this process; what it prints."""

    def made(*arguments: str, stdin: str = "", fails: bool = False) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        assert run(["hub", *arguments, "--dir", str(tmp_path / "hub")]) == int(fails)
        printed = capsys.readouterr()
        return printed.err if fails else printed.out

    return made


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'eve' WHERE id = 2",
        "UPDATE audit SET detail = '{\"admin\": false}' WHERE id = 3",
        "DELETE FROM audit WHERE id = 2",
        "UPDATE audit SET id = 9 WHERE id = 2",
    ],
)
def test_a_changed_audit_log_is_found_out(hub: Hub, ann: Actor, change: str) -> None:
    with hub.database.write() as session:
        for number in range(4):
            audit.record(session, ann, "commit", f"ann/a{number}", admin=True)
    with hub.database.read() as session:
        assert list(audit.broken(session)) == []
    with hub.database.write() as session:
        session.execute(text(change))
    with hub.database.read() as session:
        assert list(audit.broken(session))


def test_the_audit_log_is_for_administrators(running: Running) -> None:
    running.add_user("boss", admin=True)

    def ask(user: str, scope: str, **params: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {running.token(user, scope)}"}  # type: ignore[arg-type]
        return httpx.get(f"{running.url}/api/v1/audit", headers=headers, params=params)

    assert httpx.get(f"{running.url}/api/v1/audit").status_code == 401
    assert ask("ann", "admin").status_code == ask("boss", "write").status_code == 403
    headers = {"Authorization": f"Bearer {running.token('ann', 'admin')}"}
    httpx.post(f"{running.url}/api/v1/organisations", json={"name": "lab"}, headers=headers)
    (entry,) = ask("boss", "admin", action="organisation.create").json()
    assert (entry["actor"], entry["subject"]) == ("ann", "lab")
    assert ask("boss", "admin", before=str(entry["id"]), subject="lab").json() == []


def test_users_are_kept_from_the_command_line(tmp_path: Path, do: Callable[..., str]) -> None:
    do("user", "add", "ann", "--password", stdin="a long password\n")
    token = do("token", "--user", "ann").strip()
    hub = Hub.open(Settings(directory=tmp_path / "hub"))

    def by_password(password: str) -> Account | None:
        with hub.database.read() as session:
            return accounts.by_password(session, "ann", password)

    assert by_password("a long password") is not None
    do("user", "password", "ann", stdin="another password\n")
    assert by_password("a long password") is None and by_password("another password") is not None
    do("user", "admin", "ann")
    do("user", "disable", "ann")
    assert by_password("another password") is None and accounts.by_token(hub.database, token).id is None
    (listed,) = json.loads(do("user", "list", "--json"))
    assert (listed["name"], listed["admin"], listed["disabled"]) == ("ann", True, True)
    do("user", "enable", "ann")
    assert accounts.by_token(hub.database, token).name == "ann"
    told = json.loads(do("status", "--json"))
    assert told["users"] == 1 and told["store"].endswith(": ok")
    log = json.loads(do("audit", "--json"))
    actions = ["account.enable", "account.disable", "account.admin", "account.password", "token.create"]
    assert [one["action"] for one in log][:5] == actions
    assert {one["actor"] for one in log[:6]} == {"server"}
    do("audit", "--check")
    with hub.database.write() as session:
        session.execute(text("UPDATE audit SET actor = 'eve'"))
    hub.close()
    assert "changed" in do("audit", "--check", fails=True)
    do("scrub")
