"""PEFT, ``adapters`` and transformers push to a hub and load from it, with nothing set but its address and a token."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterhub.hub.server.settings import Settings
from hub.server.protocol.clients.conftest import ENVIRONMENTS, LANES, ROOT, Lane, Talk, environment
from hub.server.protocol.conftest import people
from hub.server.running import start

PEERS = ROOT / ".venv-peers"


@pytest.fixture(params=LANES, ids=lambda lane: lane.name)
def lane_talk(request: pytest.FixtureRequest, talk: Callable[[Lane], Talk]) -> Talk:
    return talk(request.param)


def peers() -> Path:
    if not (PEERS / ".installed").exists():
        pytest.skip("no .venv-peers: scripts/peer-env makes it")
    return PEERS / "bin" / "python"


@pytest.mark.parametrize("task", ["peft", "adapters"])
def test_the_libraries_of_old(lane_talk: Talk, tmp_path: Path, task: str) -> None:
    python = peers()
    name = f"ann/{lane_talk.lane.name}-{task}"
    found = lane_talk.run(python, "libraries.py", task, str(tmp_path), name, home=tmp_path / "home")
    assert found == {"peft": [True, True], "adapters": ["task", True, True, True]}[task]


@pytest.mark.parametrize(("task", "expected"), [("peft", [True, True]), ("transformers", [True, "BertModel"])])
def test_the_libraries_of_today(lane_talk: Talk, tmp_path: Path, task: str, expected: list[object]) -> None:
    """Over the newest client, which sends large files by Xet wherever it is told that they are large."""
    if not (ENVIRONMENTS / "peft").exists():
        pytest.skip("no .venv-hub/peft: scripts/hub-clients makes it")
    arguments = (task, str(tmp_path), f"ann/{lane_talk.lane.name}-{task}-today")
    added = {"PYTHONPATH": str(ENVIRONMENTS / "peft")}
    found = lane_talk.run(Path(sys.executable), "libraries.py", *arguments, home=tmp_path / "home", **added)
    assert found == expected


def test_a_second_run_needs_no_hub(talk: Callable[[Lane], Talk], folder: Path, tmp_path: Path) -> None:
    """What was loaded once is loaded from the cache when the hub is gone."""
    python = environment("2.4.0")
    hub = tmp_path / "hub"
    own = Talk(start(hub, **LANES[0].server), LANES[0], people(Settings(directory=hub)))
    code = "import huggingface_hub as hf, json, sys; print(json.dumps(hf.{}))"
    upload = f"upload_folder(repo_id='ann/x', folder_path={str(folder)!r}).oid"
    home = tmp_path / "home"
    run = [str(python), "-c"]
    made = own.environment(home)

    def line(call: str, **more: str) -> str:
        done = subprocess.run([*run, code.format(call)], env=made | more, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    line("create_repo('ann/x') and 1")
    line(upload)
    first = line("snapshot_download('ann/x')")
    own.server.stop()
    assert line("snapshot_download('ann/x')", HF_HUB_OFFLINE="1") == first
    assert line("snapshot_download('ann/x')") == first  # it tries, and finds nobody


@pytest.mark.parametrize("version", ["0.36.2", "2.4.0"])
def test_the_command_line(talk: Callable[[Lane], Talk], tmp_path: Path, version: str) -> None:
    python = environment(version)
    one = talk(LANES[0])
    made = one.environment(tmp_path / "home")
    del made["HF_TOKEN"]
    name = f"ann/cli-{version.replace('.', '-')}"
    (tmp_path / "notes.md").write_text("# Notes\n")

    def hf(*arguments: str) -> str:
        done = subprocess.run(
            [str(python.parent / "hf"), *arguments], env=made, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    hf("auth", "login", "--token", one.tokens["ann"])
    assert "ann" in hf("auth", "whoami")
    repo = "repo" if version == "0.36.2" else "repos"
    hf(repo, "create", name)
    hf("upload", name, str(tmp_path / "notes.md"), "notes.md")
    hf("download", name, "notes.md", "--local-dir", str(tmp_path / "down"))
    assert (tmp_path / "down" / "notes.md").read_text() == "# Notes\n"
    hf(repo, "tag", "create", name, "v1")
    assert "v1" in hf(repo, "tag", "list", name)
    if version != "0.36.2":  # which has neither of these
        assert name in hf("models", "ls", "--author", "ann", "--format", "json")
        hf(repo, "delete", name, "--yes")


def test_no_token_is_ever_written_down(tmp_path: Path) -> None:
    """Neither a stranger's of another hub nor our own: not in the log, and not in the folder of the hub."""
    folder = tmp_path / "hub"
    tokens = people(Settings(directory=folder))
    server = start(folder, **LANES[0].server, ADAPTERHUB_ACCESS_LOG="true")
    foreign = "hf_" + "F0reign" * 5

    def ask(path: str, token: str, data: bytes | None = None) -> int:
        request = urllib.request.Request(server.url + path, data, {"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    body = b'{"name": "x"}'
    assert ask("/api/whoami-v2", tokens["ann"]) == 200 and ask("/api/whoami-v2", foreign) == 401
    request = urllib.request.Request(
        f"{server.url}/api/repos/create",
        body,
        {"Authorization": f"Bearer {tokens['ann']}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    assert ask("/api/models/ann/x", foreign) == 200
    assert ask("/api/models/ann/x/commit/main", foreign, b"{}") == 401
    assert ask("/api/models/ann/x/commit/main", tokens["ann"], b"{}") == 400
    server.stop()
    log = tmp_path.joinpath("hub.log").read_text()
    assert "/api/models/ann/x" in log
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for token in (foreign, *tokens.values()):
        assert token not in log and token.encode() not in kept
