"""What a stock client does with large files: run in an environment of its own, it prints what it found as JSON.

Arguments: a folder with an adapter, a scratch folder, the id of a repository. The address of the hub and the token are
in the environment.
"""

import hashlib
import json
import sys
from pathlib import Path

import huggingface_hub as hf

FOLDER, SCRATCH, ID = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


def main() -> None:
    api = hf.HfApi()
    api.create_repo(ID, exist_ok=True)
    first = api.upload_folder(repo_id=ID, folder_path=FOLDER)
    again = api.upload_folder(repo_id=ID, folder_path=FOLDER)
    # To another repository of the same hub: what the client sent before it must not take for sent here.
    api.create_repo(f"{ID}-2", exist_ok=True)
    api.upload_folder(repo_id=f"{ID}-2", folder_path=FOLDER)
    local = digests(FOLDER)
    found = [digests(Path(hf.snapshot_download(name, local_dir=SCRATCH / name))) for name in (ID, f"{ID}-2")]
    print(json.dumps({"same": [one == local for one in found], "no commit": first.oid == again.oid, "oid": first.oid}))


if __name__ == "__main__":
    main()
