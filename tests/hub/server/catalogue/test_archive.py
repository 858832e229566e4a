"""The archived AdapterHub in the catalogue."""

import tarfile
from pathlib import Path

import pytest
import yaml

from adapterhub.hub.server.actor import STRANGER
from adapterhub.hub.server.catalogue import archive, compatible, resolving, search
from adapterhub.hub.server.hub import Hub
from hub.server.postgres import on_both


@on_both
def test_every_entry_is_found_by_the_names_that_it_had(hub: Hub, archived: Path) -> None:
    entries = entries_of(archived)
    assert archive.import_archive(hub, archived) == archive.Imported(new=len(entries), updated=0, kept=0)
    assert archive.import_archive(hub, archived) == archive.Imported(new=0, updated=0, kept=len(entries))
    with hub.database.read() as session:
        assert search.count(session, STRANGER) == len(entries) == 291
        for (organisation, name), entry in entries.items():
            for text in (f"@{organisation}/{name}", f"@{organisation.upper()}/{name}", f"AdapterHub/{name}"):
                found = resolving.resolve(session, STRANGER, text)
                assert found.adapter.repository.full_name == f"{organisation}/{name}"
                assert found.version == entry["default_version"]
            origin = found.adapter.origin
            assert origin is not None and origin["name"] == f"AdapterHub/{name}"
            assert [(one["name"], one["sha256"]) for one in origin["versions"]] == [
                (one["version"], one["sha256"].lower()) for one in entry["files"]
            ]
            kind = "lang/" if entry["type"] == "text_lang" else ""
            place = f"{kind}{entry['task']}/{entry['subtask']}@{organisation}"
            base = compatible.asked(session, name=entry["model_name"])
            same = resolving.resolve(session, STRANGER, place, base=base)
            assert same.adapter.base is not None and same.adapter.base.name == entry["model_name"]
            assert same.adapter.task is not None and same.adapter.task.slug == entry["task"]


def entries_of(path: Path) -> dict[tuple[str, str], dict]:
    with tarfile.open(path) as tar:
        names = [one for one in tar.getnames() if one.startswith("./adapters/") and one.endswith((".yaml", ".yml"))]
        return {
            (name.split("/")[2], Path(name).stem): yaml.safe_load(tar.extractfile(name))  # type: ignore[arg-type]
            for name in names
        }


@pytest.fixture
def filled(hub: Hub, archived: Path) -> Hub:
    archive.import_archive(hub, archived)
    return hub
