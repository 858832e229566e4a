"""The stock client of the Hugging Face Hub against a hub that runs, in all versions and ways that are supported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.server.protocol.clients.conftest import LANES, VERSIONS, Lane, Talk, environment

Found = dict[str, Any]


@pytest.fixture(scope="module", params=[f"{version} {lane.name}" for version in VERSIONS for lane in LANES])
def found(
    request: pytest.FixtureRequest,
    talk: Callable[[Lane], Talk],
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    """What a client of a version found in a lane."""
    version, name = request.param.split()
    python = environment(version)
    lane = next(one for one in LANES if one.name == name)
    one = talk(lane)
    scratch = tmp_path_factory.mktemp("scratch")
    arguments = (str(folder), one.tokens["bob"], str(scratch), f"ann/{name}-{version.replace('.', '-')}")
    found: Found = one.run(python, "exchange.py", *arguments, home=tmp_path_factory.mktemp("home"))
    return found


def test_whoami(found: Found) -> None:
    assert found["whoami"] == ["ann", "401", "401"]


def test_create(found: Found) -> None:
    made = found["create"]
    assert made.pop("url") is True and made.pop("id").startswith("ann/")
    assert made.pop("bad name") in ("HFValidationError", "ValueError", "400")
    assert made == {"again": "409", "others": "403", "nobodys": "401", "data set": "501"}


def test_a_folder_comes_and_the_same_again_is_no_commit(found: Found) -> None:
    assert found["upload_folder"] == {
        "commit": True,
        "paths": True,
        "sizes": True,
        "sha256": True,
        "large": ["adapter_model.safetensors"],
    }


def test_a_snapshot_is_what_was_uploaded_and_works_offline(found: Found) -> None:
    assert found["snapshot"] == [True, ["adapter_model.safetensors"], True]


def test_files_come_as_bytes_streams_and_paths(found: Found) -> None:
    assert found["upload_file"] == ["bytes", "stream", "from a path"]


def test_the_log(found: Found) -> None:
    titles = ["path.md", "stream.md", "bytes.md", "All of it", "initial commit"]
    assert found["commits_log"] == [titles, ["ann"], True]


def test_trees_and_paths(found: Found) -> None:
    said = found["listings"]
    assert said["top"]["notes"] == "RepoFolder" and said["top"]["README.md"] == "RepoFile"
    assert (said["last commit"], said["readme from"]) == ("bytes.md", "All of it")
    assert said["paths info"] == ["README.md", "more"]
    assert said["missing folder"] == "EntryNotFoundError" and said["files"] is True


def test_what_is_said_of_a_repository(found: Found) -> None:
    assert found["info"] == {
        "author": "ann",
        "private": False,
        "library": "peft",
        "card": "mit",
        "size": True,
        "base": True,
        "expanded": ["int", None, True],
        "model_info of nothing": "RepositoryNotFoundError",
        "of a revision": "RevisionNotFoundError",
    }


def test_branches_and_tags(found: Found) -> None:
    assert found["branches_and_tags"] == {
        "branches": ["empty", "main", "try/this"],
        "tags": ["refs/tags/v1"],
        "again": ["409", "409"],
        "tag exist_ok": None,
        "on the tag": "there",
        "on main": False,
        "empty": [],
        "protected": "409",
        "gone": "RevisionNotFoundError",
        "left": 2,
    }


def test_files_are_added_copied_and_deleted_in_one_commit(found: Found) -> None:
    assert found["operations"] == [True, "412", "EntryNotFoundError", ["more/path.md"]]


def test_who_sees_what(found: Found) -> None:
    seen = found["exists"]
    assert seen.pop("write") == ["nothing", "403", "401", "401"]
    owner, other = "nothing", "RepositoryNotFoundError"
    public = [True, False, False, True, False, False, True, False, False, other, False]
    assert seen.pop("ann") == [True, True, False, True, False, True, True, False, True, owner, True]
    assert seen == {"bob": public, "stranger": public, "foreign": public}


def test_lists(found: Found) -> None:
    said = found["lists"]
    assert said.pop("other author") == [] == said.pop("other base") and said.pop("card") == ["mit"]
    assert set(said.values()) == {True}, said


def test_checksums(found: Found) -> None:
    assert found["checksums"] in ([True, ["README.md"]], "not in this version")


def test_settings_moves_and_deletion(found: Found) -> None:
    assert found["settings_and_moves"] == [False, True, False, "RepositoryNotFoundError", None]
