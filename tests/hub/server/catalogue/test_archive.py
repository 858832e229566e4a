"""The archived AdapterHub in the catalogue."""

import io
import tarfile
from pathlib import Path

import pytest
import yaml

from adapterhub.errors import AmbiguousAdapterError, DataError, HubNotFoundError
from adapterhub.hub.compatibility import Level
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.catalogue import archive, compatible, leaderboard, resolving, search, taxonomy
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue.publishing import push


def test_every_entry_is_found_by_the_names_that_it_had(filled: Hub, archived: Path) -> None:
    entries = entries_of(archived)
    with filled.database.read() as session:
        assert search.count(session, STRANGER) == len(entries)
        for number, ((organisation, name), entry) in enumerate(entries.items()):
            texts = (f"@{organisation}/{name}", f"{organisation}/{name}", f"@{organisation.upper()}/{name}")
            found = resolving.resolve(session, STRANGER, (*texts, f"AdapterHub/{name}")[number % 4])
            assert found.adapter.repository.full_name == f"{organisation}/{name}"
            assert found.version == entry["default_version"]
            origin = found.adapter.origin
            assert origin is not None and origin["name"] == f"AdapterHub/{name}"
            assert [(one["name"], one["sha256"]) for one in origin["versions"]] == [
                (one["version"], one["sha256"].lower()) for one in entry["files"]
            ]


def test_every_place_means_one_entry_for_a_base_model(filled: Hub, archived: Path) -> None:
    entries = {(one["type"], one["task"], one["subtask"], who, one["model_name"]) for (who, _), one in
               entries_of(archived).items()}  # fmt: skip
    plain = 0
    with filled.database.read() as session:
        for kind, task, subtask, organisation, model in sorted(entries)[::3]:
            place = f"{'lang/' if kind == 'text_lang' else ''}{task}/{subtask}@{organisation}"
            base = compatible.asked(session, name=model)
            found = resolving.resolve(session, STRANGER, place, base=base).adapter
            assert found.base is not None and found.base.name == model
            assert (found.task.slug, found.dataset.slug) == (task, subtask)  # type: ignore[union-attr]
            assert found.repository.owner.name == organisation
            plain += found.origin["architecture"] == "pfeiffer"  # type: ignore[index]
    assert plain > 60  # as AdapterHub had it where no configuration was named


def test_the_sst_2_adapters_of_ukp(filled: Hub) -> None:
    with filled.database.read() as session:
        roberta = compatible.asked(session, name="FacebookAI/roberta-base")
        assert (
            resolving.resolve(session, STRANGER, "sentiment/sst-2@ukp", base=roberta).adapter.repository.name
            == "roberta-base-sst_pfeiffer"
        )
        with pytest.raises(AmbiguousAdapterError, match="may be one of"):
            resolving.resolve(session, STRANGER, "sentiment/sst-2")
        with pytest.raises(HubNotFoundError, match="sst-2@somebody"):
            resolving.resolve(session, STRANGER, "sentiment/sst-2@somebody", base=roberta)
        large = compatible.asked(session, name="roberta-large")
        with pytest.raises(HubNotFoundError, match="hidden size is 768 in the adapter, 1024 in the base"):
            resolving.resolve(session, STRANGER, "sentiment/imdb@ukp", base=compatible.asked(session, config=_WIDE))
        assert resolving.resolve(session, STRANGER, "sentiment/sst-2@ukp", base=large).adapter.base is not None


_WIDE = {"model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 24}


def test_versions_are_those_of_the_archive(filled: Hub) -> None:
    name = "@ukp/bert-base-uncased_sts_stackexchange_pfeiffer"
    with filled.database.read() as session:
        found = resolving.resolve(session, STRANGER, f"{name}@english_stackexchange_com")
        assert found.version == "english_stackexchange_com"
        assert resolving.resolve(session, STRANGER, name, version="english_stackexchange_com").version == found.version
        with pytest.raises(HubNotFoundError, match="has no revision v9"):
            resolving.resolve(session, STRANGER, f"{name}@v9")


def test_what_a_base_model_can_load(filled: Hub) -> None:
    """XLM-R base has the shapes of RoBERTa base, and is another model."""
    with filled.database.read() as session:
        groups = compatible.groups(session, STRANGER, compatible.asked(session, name="roberta-base"), limit=3)
        assert (groups[0].level, groups[0].count) == (Level.SAME_BASE, 28)
        assert {one.base.name for one in groups[0].trained} == {"roberta-base"}
        assert {one.level for one in groups} == {Level.SAME_BASE, Level.SHAPE}
        assert "xlm-roberta-base" in {one.base.name for one in groups[1].trained}
        assert not {"roberta-large", "distilbert-base-uncased", "gpt2"} & {one.base.name for one in groups[1].trained}
        assert len(groups[0].page.adapters) == 3 and groups[0].page.next is not None
        verdicts = compatible.verdicts(session, compatible.asked(session, name="roberta-base"))
        ids = compatible.fitting(verdicts)
        assert search.count(session, STRANGER, Filters(bases=ids)) == 28
        pasted = {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 50265}
        groups = compatible.groups(session, STRANGER, compatible.asked(session, config=pasted))
        assert {one.level for one in groups} == {Level.SHAPE}
        with pytest.raises(HubNotFoundError, match=r"paste its config\.json"):
            compatible.asked(session, name="nobody/nothing")


def test_scores_are_claims_by_the_metric_of_the_data_set(filled: Hub) -> None:
    with filled.database.read() as session:
        squad = taxonomy.dataset(session, taxonomy.task(session, "qa"), "squad2")
        table = leaderboard.leaderboard(session, STRANGER, squad)
        assert [one.score.value for one in table.rows] == [0.8493, 0.81, 0.8035, 0.765, 0.7442]
        assert not any(one.score.verified for one in table.rows)


def test_once_there_are_files_here_they_count(hub: Hub, archived: Path, ann: Actor) -> None:
    assert archive.import_archive(hub, archived) == archive.Imported(new=291, updated=0, kept=0)
    assert archive.import_archive(hub, archived) == archive.Imported(new=0, updated=0, kept=291)
    admin = Actor(ann.id, ann.name, "admin", is_admin=True)
    card = "---\ntags: ['adapterhub:sentiment/sst-2']\n---\n"
    push(hub, admin, "roberta-base-sst_pfeiffer", card, owner="ukp")
    assert archive.import_archive(hub, archived).kept == 291
    with hub.database.read() as session:
        found = resolving.resolve(session, STRANGER, "@ukp/roberta-base-sst_pfeiffer")
        assert found.adapter.origin is None and found.adapter.method == "lora"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("adapters/../../x.yaml", "a: 1", None),
        ("/adapters/ukp/x.yaml", "!!python/object/apply:os.system [echo]", "no index of AdapterHub"),
        ("tasks/text_task/x.yaml", "- 1", "holds no fields"),
        ("tasks/text_task/x.yaml", "a: 1", "has no 'task'"),
        ("tasks/text_task/x.yaml", "a: [", "no index of AdapterHub"),
        ("tasks/text_task/x.yaml", "#" * (1 << 20) + "#", "larger than any index"),
    ],
)
def test_archives_that_are_none(hub: Hub, tmp_path: Path, name: str, content: str, problem: str | None) -> None:
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        data = content.encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("adapters/ukp/link.yaml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=problem or "it has no files"):
        archive.import_archive(hub, path)
    with pytest.raises(DataError):
        archive.import_archive(hub, tmp_path / "nothing.tar.gz")
    assert not list(tmp_path.rglob("x.yaml"))


def entries_of(path: Path) -> dict[tuple[str, str], dict]:
    with tarfile.open(path) as tar:
        names = [one for one in tar.getnames() if one.startswith("./adapters/") and one.endswith((".yaml", ".yml"))]
        return {
            (name.split("/")[2], Path(name).stem): yaml.safe_load(tar.extractfile(name))  # type: ignore[arg-type]
            for name in names
        }
