"""Ids of git: git itself is the oracle."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub.hub.server import git_objects

NAMES = st.text("ab-.0é", min_size=1, max_size=4).filter(lambda name: name.strip(".") == name and name)


def git(folder: Path, *arguments: str, **environment: str) -> str:
    run = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env=os.environ | environment
    )
    return run.stdout.strip()


def entry(data: bytes) -> git_objects.Entry:
    return git_objects.entry(git_objects.blob_id(data), "0" * 64, len(data), large=False)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=9), max_size=6))
def test_ids_of_files_folders_and_commits_are_those_of_git(tmp_path_factory: object, content: dict[str, bytes]) -> None:
    content = {
        path: data
        for path, data in content.items()
        if not any(f"{path}/" in f"{one}/" and one != path for one in content)
    }
    folder = tmp_path_factory.mktemp("git")  # type: ignore[attr-defined]
    git(folder, "init", "--quiet")
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    git(folder, "add", "--all", "--force")
    made = git_objects.folders({path: entry(data) for path, data in content.items()})
    assert made[""] == git(folder, "write-tree")
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in {
            "NAME": "ann",
            "EMAIL": "ann@users.noreply",
            "DATE": f"{int(time.timestamp())} +0000",
        }.items()
    }
    theirs = git(folder, "commit-tree", made[""], "-m", "A title\n\nwith more", **who)
    assert git_objects.commit_id(made[""], None, "ann", time, "A title\n\nwith more") == theirs
    child = git(folder, "commit-tree", made[""], "-p", theirs, "-m", "Next", **who)
    assert git_objects.commit_id(made[""], theirs, "ann", time, "Next") == child


def test_a_large_file_is_known_by_its_pointer() -> None:
    large = git_objects.entry("1" * 40, "a" * 64, 5, large=True)
    assert large.etag == "a" * 64
    assert large.oid == git_objects.blob_id(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n"
    )
