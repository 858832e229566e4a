"""Who may do what: every operation that the API describes, by everybody, on what is public and what is private."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from sqlalchemy import delete
from starlette.testclient import TestClient

from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.server import accounts, blobs, commits, repositories
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Delivery, SigningKey, Token, Webhook
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub import keys
from hub.server.api.conftest import placed
from hub.server.api.description import description

# The owner of a laboratory, members of it who may write or read, a token of its owner that only reads, somebody else,
# who administers the hub, and who is not signed in.
PEOPLE = ("owner", "writer", "reader", "glancing", "other", "admin", "stranger")
_NUMBERS = count()
PRINT = Fingerprint("roberta-base", None, "roberta", 8, 1, 50265, "s:1", "w:1", None).to_dict()


@dataclass(frozen=True)
class Rule:
    """Who may do an operation, and an example of it.

    Attributes:
        who: those who may.
        values: of its parameters; ``{name}`` is a repository of the laboratory.
        body: what is sent.
        hidden: whether for those who may not see a private repository it does not exist.
    """

    who: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    hidden: bool = False


OWNERS = ("owner", "admin")
ALL = PEOPLE
MEMBERS = ("owner", "writer", "reader", "glancing", "admin")
WRITERS = ("owner", "writer", "admin")
SIGNED_IN = ("owner", "writer", "reader", "glancing", "other", "admin")
WITH_WRITE = ("owner", "writer", "reader", "other", "admin")
LAB = {"owner": "lab", "name": "{name}"}
TASK = {"task": "sentiment", "dataset": "sst-2"}
RULES: dict[str, Rule] = {
    "GET /health": Rule(ALL),
    "GET /ready": Rule(ALL),
    "GET /metrics": Rule(("admin",)),  # and programs on the machine itself
    "GET /api/v1/audit": Rule(("admin",)),
    "GET /api/v1/webhooks": Rule(OWNERS, {"account": "lab"}),
    "POST /api/v1/webhooks": Rule(OWNERS, body={"account": "lab", "url": "https://192.0.43.8/hook"}),
    "DELETE /api/v1/webhooks/{number}": Rule(OWNERS, {"number": "{webhook}"}),
    "GET /api/v1/webhooks/{number}/deliveries": Rule(OWNERS, {"number": "{webhook}"}),
    "POST /api/v1/webhooks/{number}/deliveries/{delivery}": Rule(
        OWNERS, {"number": "{webhook}", "delivery": "{delivery}"}
    ),
    "GET /api/v1/me": Rule(SIGNED_IN),
    "GET /api/v1/accounts/{name}": Rule(ALL, {"name": "lab"}),
    "GET /api/v1/accounts/{name}/keys": Rule(ALL, {"name": "lab"}),
    "POST /api/v1/accounts/{name}/keys": Rule(OWNERS, {"name": "lab"}, {"name": "laptop", "public_key": "{public}"}),
    "DELETE /api/v1/keys/{number}": Rule(OWNERS, {"number": "{key}"}),
    "POST /api/v1/organisations": Rule(WITH_WRITE, body={"name": "new-{who}"}),
    "GET /api/v1/organisations/{name}/members": Rule(ALL, {"name": "lab"}),
    "PUT /api/v1/organisations/{name}/members/{user}": Rule(
        OWNERS, {"name": "lab", "user": "reader"}, {"role": "read"}
    ),
    "DELETE /api/v1/organisations/{name}/members/{user}": Rule(OWNERS, {"name": "lab", "user": "{spare}"}),
    "GET /api/v1/tokens": Rule(WITH_WRITE),
    "POST /api/v1/tokens": Rule(WITH_WRITE, body={"name": "more"}),
    "DELETE /api/v1/tokens/{number}": Rule(WITH_WRITE, {"number": "{token}"}),
    "GET /api/v1/adapters": Rule(ALL),
    "GET /api/v1/adapters/{owner}/{name}": Rule(ALL, LAB, hidden=True),
    "PUT /api/v1/adapters/{owner}/{name}/like": Rule(WITH_WRITE, LAB, hidden=True),
    "DELETE /api/v1/adapters/{owner}/{name}/like": Rule(WITH_WRITE, LAB, hidden=True),
    "POST /api/v1/adapters/{owner}/{name}/withdraw": Rule(WRITERS, LAB, {"reason": "for a test"}, hidden=True),
    "DELETE /api/v1/adapters/{owner}/{name}/withdraw": Rule(WRITERS, LAB, hidden=True),
    "PUT /api/v1/adapters/{owner}/{name}/default": Rule(("admin",), LAB, hidden=True),
    "POST /api/v1/adapters/{owner}/{name}/scores": Rule(
        WITH_WRITE, LAB, TASK | {"commit": "{commit}", "metrics": {"accuracy": 0.5}}, hidden=True
    ),
    "POST /api/v1/resolve": Rule(ALL, LAB, {"identifier": "lab/{name}"}, hidden=True),
    "GET /api/v1/resolve": Rule(ALL, {"spec": "lab/{name}"}, hidden=True),
    "POST /api/v1/compatible": Rule(ALL, body={"base": "roberta-base"}),
    "GET /api/v1/bases": Rule(ALL),
    "POST /api/v1/bases": Rule(WITH_WRITE, body={"name": "me/tuned", "fingerprint": PRINT}),
    "PUT /api/v1/bases/{name}/config": Rule(("admin",), {"name": "me/other"}, {"model_type": "bert"}),
    "PUT /api/v1/bases/{name}/origin": Rule(
        ("admin",), {"name": "me/other"}, {"parent": "roberta-base", "relation": "finetune"}
    ),
    "GET /api/v1/bases/{name}": Rule(ALL, {"name": "roberta-base"}),
    "GET /api/v1/facets": Rule(ALL),
    "GET /api/v1/suggest": Rule(ALL, {"q": "sent"}),
    "GET /api/v1/explore": Rule(ALL),
    "GET /api/v1/tasks": Rule(ALL),
    "GET /api/v1/languages": Rule(ALL),
    "GET /api/v1/tasks/{task}": Rule(ALL, {"task": "sentiment"}),
    "POST /api/v1/tasks": Rule(("admin",), body={"slug": "topic-{who}"}),
    "PATCH /api/v1/tasks/{task}": Rule(("admin",), {"task": "nli"}, {"title": "Inference"}),
    "POST /api/v1/tasks/{task}/datasets": Rule(WITH_WRITE, {"task": "sentiment"}, {"slug": "new-{who}"}),
    "PATCH /api/v1/tasks/{task}/datasets/{dataset}": Rule(("admin",), TASK, {"title": "SST-2"}),
    "GET /api/v1/leaderboards/{task}/{dataset}": Rule(ALL, TASK),
}


@dataclass
class Lab:
    """A hub with a laboratory that has a public and a private adapter."""

    hub: Hub
    client: TestClient
    tokens: dict[str, str]
    commits: dict[str, str]

    def new(self, who: str) -> dict[str, str]:
        """What a request may remove: a member, a webhook with a message, a token, a key."""
        number, actor = next(_NUMBERS), accounts.by_token(self.hub.database, self.tokens.get(who, self.tokens["other"]))
        with self.hub.database.write() as session:
            lab = accounts.account(session, "lab")
            spare = accounts.add_user(session, f"spare-{number}", None)
            accounts.set_role(session, lab, spare, "read")
            session.execute(delete(Webhook))  # an account may have a few
            webhook = Webhook(account_id=lab.id, url="https://192.0.43.8/hook", secret="x", events=[])
            session.add(webhook)
            session.flush()
            delivery = Delivery(webhook_id=webhook.id, event="ping", body={"id": "1", "event": "ping"})
            token = Token(name="spare", digest=str(number), scope="read", account_id=actor.id)
            session.execute(delete(SigningKey))
            key = SigningKey(account_id=lab.id, name="spare", pem="", fingerprint=str(number))
            session.add_all([delivery, token, key])
            session.flush()
            return {
                "{spare}": spare.name,
                "{webhook}": str(webhook.id),
                "{delivery}": str(delivery.id),
                "{token}": str(token.id),
                "{key}": str(key.id),
                "{public}": keys.public(keys.private()),
            }

    def ask(self, label: str, rule: Rule, who: str, name: str) -> Any:
        """One request."""
        method, path = label.split()
        filled = {"{name}": name, "{who}": who, "{commit}": self.commits[name]} | self.new(who)
        values, body = (_filled(one, filled) for one in (rule.values, rule.body))
        for key in [key for key in values if f"{{{key}}}" in path]:
            path = path.replace(f"{{{key}}}", str(values.pop(key)))
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who in self.tokens else {}
        return self.client.request(method, path, params=values, json=body, headers=headers)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, names) for key, one in value.items()}
    for name, text in names.items():
        value = value.replace(name, text) if isinstance(value, str) else value
    return value


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    app = create_app(Settings(directory=tmp_path_factory.mktemp("lab") / "hub"))
    hub, tokens, oids = app.state.hub, dict[str, str](), dict[str, str]()
    with hub.database.write() as session:
        users = {name: accounts.add_user(session, f"the-{name}", None) for name in ("owner", "writer", "other")}
        users["reader"] = accounts.add_user(session, "reader", None)
        users["admin"] = accounts.add_user(session, "the-admin", None, admin=True)
        organisation = accounts.add_organisation(session, "lab", users["owner"].id)
        for name, role in (("writer", "write"), ("reader", "read")):
            accounts.set_role(session, organisation, users[name], role)
        for name, user in users.items():
            tokens[name] = accounts.new_token(session, user, "test", "admin")
        tokens["glancing"] = accounts.new_token(session, users["owner"], "test", "read")
    writer = accounts.by_token(hub.database, tokens["writer"])
    for name, private in (("open", False), ("closed", True)):
        with hub.database.write() as session:
            repositories.create(session, writer, "lab", name, private=private)
        files = placed("sentiment/sst-2", seed=int(private))
        changes = [Put(path, blobs.receive(hub, writer, data, path)) for path, data in files.items()]
        oids[name] = commits.publish(hub, writer, "lab", name, "main", changes, Message("Change")).oid
    yield Lab(hub, TestClient(app), tokens, oids)
    hub.close()


def operations() -> list[str]:
    """Every operation of the description."""
    return [f"{method.upper()} {path}" for path, methods in description()["paths"].items() for method in methods]


def test_every_operation_has_a_rule() -> None:
    assert set(operations()) == set(RULES)


@pytest.mark.parametrize("label", RULES)
def test_everybody_may_do_what_the_rules_say(lab: Lab, label: str) -> None:
    rule = RULES[label]
    for name in ("open", "closed") if rule.hidden else ("open",):
        for who in PEOPLE:
            status = lab.ask(label, rule, who, name).status_code
            if name == "closed" and who not in MEMBERS:
                expected: tuple[int, ...] = (404,)
            elif who in rule.who:
                expected = (200, 201, 202, 204)
            else:
                expected = (401,) if who == "stranger" else (403, 404)
            assert status in expected, (label, who, name, status)
