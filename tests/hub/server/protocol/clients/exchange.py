"""What a stock client does with a hub: run in an environment of its own, it prints what it found as JSON.

Arguments: a folder with files to upload, the token of bob, and a scratch folder. The address of the hub and the token
of ann are in the environment, as users of the client put them there.
"""

import hashlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub as hf
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

FOLDER, BOB, SCRATCH = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
ID = sys.argv[4]
api = hf.HfApi()
bob = hf.HfApi(token=BOB)
stranger = hf.HfApi(token=False)
foreign = hf.HfApi(token="hf_0123456789foreign")
CHECKS: list[Callable[[], Any]] = []


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    CHECKS.append(function)
    return function


def refused(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The name of the error that a call ends with, and its status."""
    try:
        function(*arguments, **options)
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        return type(error).__name__.replace("Remote", "")
    except (LocalTokenNotFoundError, ValueError) as error:
        return type(error).__name__
    except (HfHubHTTPError, OSError) as error:  # whoami of the old client gives an error of its HTTP library
        return str(error.response.status_code)
    return "nothing"


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


@check
def whoami() -> Any:
    return [api.whoami()["name"], refused(foreign.whoami), refused(hf.HfApi(token="ah_no").whoami)]


@check
def create() -> Any:
    url = api.create_repo(ID)
    again = api.create_repo(ID, exist_ok=True)
    return {
        "url": str(url) == f"{os.environ['HF_ENDPOINT']}/{ID}" == str(again),
        "id": url.repo_id,
        "again": refused(api.create_repo, ID),
        "others": refused(bob.create_repo, ID),
        "nobodys": refused(stranger.create_repo, ID),
        "bad name": refused(api.create_repo, "ann/a--b"),
        "data set": refused(api.create_repo, ID, repo_type="dataset"),
    }


@check
def upload_folder() -> Any:
    first = api.upload_folder(repo_id=ID, folder_path=FOLDER, commit_message="All of it")
    again = api.upload_folder(repo_id=ID, folder_path=FOLDER)
    tree = {file.path: file for file in api.list_repo_tree(ID, recursive=True) if isinstance(file, hf.hf_api.RepoFile)}
    local = digests(FOLDER)
    return {
        "commit": first.oid == api.model_info(ID).sha == again.oid,
        "paths": sorted(tree) == sorted(local),
        "sizes": all(file.size == (FOLDER / path).stat().st_size for path, file in tree.items()),
        "sha256": all(file.lfs.sha256 == local[path] for path, file in tree.items() if file.lfs),
        "large": sorted(path for path, file in tree.items() if file.lfs),
    }


@check
def snapshot() -> Any:
    folder = Path(hf.snapshot_download(ID))
    weights = Path(hf.snapshot_download(ID, allow_patterns="*.safetensors", local_dir=SCRATCH / "weights"))
    offline = Path(hf.snapshot_download(ID, local_files_only=True))
    return [digests(folder) == digests(FOLDER), sorted(digests(weights)), offline == folder]


@check
def upload_file() -> Any:
    path = SCRATCH / "notes.md"
    path.write_text("from a path")
    for name, source in (("bytes.md", b"bytes"), ("stream.md", io.BytesIO(b"stream")), ("path.md", str(path))):
        api.upload_file(path_or_fileobj=source, path_in_repo=f"more/{name}", repo_id=ID, commit_message=name)
    names = ("bytes.md", "stream.md", "path.md")
    return [Path(hf.hf_hub_download(ID, f"more/{name}")).read_text() for name in names]


@check
def commits_log() -> Any:
    found = api.list_repo_commits(ID)
    return [[one.title for one in found], found[0].authors, found[0].created_at.tzinfo is not None]


@check
def listings() -> Any:
    top = {one.path: type(one).__name__ for one in api.list_repo_tree(ID)}
    expanded = next(one for one in api.list_repo_tree(ID, "more", expand=True) if one.path == "more/bytes.md")
    infos = api.get_paths_info(ID, ["README.md", "more", "none.txt"], expand=True)
    return {
        "top": top,
        "last commit": expanded.last_commit.title,
        "paths info": [one.path for one in infos],
        "readme from": infos[0].last_commit.title,
        "missing folder": refused(lambda: list(api.list_repo_tree(ID, "none"))),
        "files": len(api.list_repo_files(ID)) == len(api.model_info(ID).siblings),
    }


@check
def info() -> Any:
    found = api.model_info(ID, files_metadata=True)
    weights = next(one for one in found.siblings if one.rfilename == "adapter_model.safetensors")
    some = api.model_info(ID, expand=["downloads", "tags"])
    return {
        "author": found.author,
        "private": found.private,
        "library": found.library_name,
        "card": found.card_data.license,
        "size": weights.size == (FOLDER / "adapter_model.safetensors").stat().st_size,
        "base": "base_model:adapter:roberta-base" in found.tags,
        "expanded": [type(some.downloads).__name__, some.sha, "base_model:roberta-base" in some.tags],
        "model_info of nothing": refused(api.model_info, "ann/none"),
        "of a revision": refused(api.model_info, ID, revision="none"),
    }


@check
def branches_and_tags() -> Any:
    first = api.list_repo_commits(ID)[-1].commit_id
    api.create_branch(ID, branch="try/this")
    api.create_branch(ID, branch="try/this", exist_ok=True)
    api.create_branch(ID, branch="empty", revision=first)
    api.upload_file(path_or_fileobj=b"there", path_in_repo="there.md", repo_id=ID, revision="try/this")
    api.create_tag(ID, tag="v1", tag_message="one", revision="try/this")
    refs = api.list_repo_refs(ID)
    made = {
        "branches": sorted(one.name for one in refs.branches),
        "tags": [one.ref for one in refs.tags],
        "again": [refused(api.create_branch, ID, branch="empty"), refused(api.create_tag, ID, tag="v1")],
        "tag exist_ok": api.create_tag(ID, tag="v1", exist_ok=True),
        "on the tag": Path(hf.hf_hub_download(ID, "there.md", revision="v1")).read_text(),
        "on main": api.file_exists(ID, "there.md"),
        "empty": [one.rfilename for one in api.model_info(ID, revision="empty").siblings],
        "protected": refused(api.delete_branch, ID, branch="main"),
    }
    api.delete_branch(ID, branch="try/this")
    api.delete_tag(ID, tag="v1")
    return made | {"gone": refused(api.delete_tag, ID, tag="v1"), "left": len(api.list_repo_refs(ID).branches)}


@check
def operations() -> Any:
    add, copy, delete = hf.CommitOperationAdd, hf.CommitOperationCopy, hf.CommitOperationDelete
    weights = "adapter_model.safetensors"
    made = api.create_commit(
        ID,
        [
            delete("more/bytes.md"),
            add("more/new.md", b"new"),
            copy(weights, f"old/{weights}"),
            copy("README.md", "old/README.md"),
        ],
        commit_message="Several",
        parent_commit=api.model_info(ID).sha,
    )
    stale = refused(api.create_commit, ID, [add("x.md", b"x")], commit_message="x", parent_commit=made.oid[::-1])
    copied = Path(hf.hf_hub_download(ID, f"old/{weights}")).read_bytes() == (FOLDER / weights).read_bytes()
    api.delete_folder("old", ID)
    api.delete_file("more/new.md", ID)
    api.delete_files(ID, ["more/str*"])
    left = [path for path in api.list_repo_files(ID) if path.startswith(("old/", "more/"))]
    return [copied, stale, refused(api.delete_file, "none.md", ID), left]


@check
def exists() -> Any:
    private = f"{ID}-private"
    api.create_repo(private, private=True)
    api.upload_file(path_or_fileobj=b"secret", path_in_repo="a.md", repo_id=private)
    people = {"ann": api, "bob": bob, "stranger": stranger, "foreign": foreign}
    made: dict[str, Any] = {
        name: [
            who.repo_exists(ID),
            who.repo_exists(private),
            who.repo_exists("ann/none"),
            who.file_exists(ID, "README.md"),
            who.file_exists(ID, "none.md"),
            who.file_exists(private, "a.md"),
            who.revision_exists(ID, "main"),
            who.revision_exists(ID, "none"),
            who.revision_exists(private, "main"),
            refused(who.auth_check, private),
            private in [one.id for one in who.list_models(author="ann")],
        ]
        for name, who in people.items()
    }
    made["write"] = [
        refused(who.upload_file, path_or_fileobj=b"x", path_in_repo="x.md", repo_id=ID) for who in people.values()
    ]
    return made


@check
def lists() -> Any:
    def ids(**options: Any) -> list[str]:
        return [one.id for one in api.list_models(**options)]

    everything = ids()
    cards = list(api.list_models(search=ID, cardData=True, sort="downloads"))
    return {
        "author": ID in ids(author="ann"),
        "other author": ids(author="bob"),
        "search": [one for one in ids(search=ID.rpartition("/")[2], sort="likes") if one.startswith(ID)]
        == [f"{ID}-private", ID],
        "base": ID in ids(filter=["base_model:adapter:roberta-base", "peft"]),
        "other base": ids(filter="base_model:adapter:none"),
        "limit": ids(limit=1) == everything[:1],
        "sorted": ids(sort="created_at", limit=2) == everything[:2],
        "full": all(one.siblings is not None for one in api.list_models(full=True)),
        "card": [one.card_data.license for one in cards if one.id == ID],
    }


@check
def checksums() -> Any:
    if not hasattr(api, "verify_repo_checksums"):
        return "not in this version"
    hf.snapshot_download(ID, local_dir=SCRATCH / "verified")
    good = api.verify_repo_checksums(ID, local_dir=SCRATCH / "verified")
    (SCRATCH / "verified" / "README.md").write_text("changed")
    bad = api.verify_repo_checksums(ID, local_dir=SCRATCH / "verified")
    return [good.mismatches == [] and not good.missing_paths, [one["path"] for one in bad.mismatches]]


@check
def settings_and_moves() -> Any:
    api.update_repo_settings(ID, private=True)
    hidden = stranger.repo_exists(ID)
    api.update_repo_settings(ID, private=False)
    api.move_repo(ID, f"{ID}-moved")
    old = api.model_info(ID).id
    api.delete_repo(f"{ID}-moved")
    return [
        hidden,
        old == f"{ID}-moved",
        api.repo_exists(ID),
        refused(api.delete_repo, ID),
        api.delete_repo(ID, missing_ok=True),
    ]


def main() -> None:
    found: dict[str, Any] = {"version": hf.__version__}
    for one in CHECKS:
        try:
            found[one.__name__] = one()
        except Exception:
            found[one.__name__] = traceback.format_exc()
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
