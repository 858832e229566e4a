"""The archived AdapterHub in a catalogue: entries with versions, scores and names, whose files lie elsewhere."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.inspecting.info import config_hash
from adapterhub.hub.server import audit, repositories
from adapterhub.hub.server.actor import SERVER
from adapterhub.hub.server.catalogue import archive_reading, bases, indexing, scores, taxonomy
from adapterhub.hub.server.catalogue.archive_reading import Archive
from adapterhub.hub.server.catalogue.describing import Description
from adapterhub.hub.server.catalogue.scores import Result
from adapterhub.hub.server.database import Account, Adapter, Alias, Dataset, Ref, Repository, Task
from adapterhub.hub.server.database.upserting import put
from adapterhub.hub.server.hub import Hub

ELSEWHERE = "https://huggingface.co"
_ORGANISATION = "AdapterHub"  # where the files were moved to, a repository an entry and a branch a version


@dataclass(frozen=True)
class Imported:
    """How many entries came, and how many were there already or have files here by now."""

    new: int
    updated: int
    kept: int


def import_archive(hub: Hub, path: Path) -> Imported:
    """Put the entries of the archived AdapterHub into the catalogue, under the organisations that they belong to.

    They are references: ``Adapter.origin`` says where the files are, and what their SHA-256 is. What has files here by
    now stays as it is; done again, it changes nothing.

    Raises:
        DataError: if it is no such archive.
    """
    archive = archive_reading.read(path)
    with hub.database.write() as session:
        _complete_taxonomy(session, archive)
        first = set(_defaults(archive))
        outcomes = [_put(session, archive, *key, entry, key in first) for key, entry in sorted(archive.entries.items())]
        audit.record(session, SERVER, "archive.import", path.name)
    return Imported(*(outcomes.count(one) for one in ("new", "updated", "kept")))


def _complete_taxonomy(session: Session, archive: Archive) -> None:
    """Add what of the taxonomy is not there; what is there may have been changed by a curator."""
    tasks = {one.slug: one for one in taxonomy.tasks(session)}
    for (kind, slug), content in archive.tasks.items():
        if slug not in tasks:
            description = (content.get("description") or "").strip()
            tasks[slug] = Task(kind=kind, slug=slug, title=content["displayname"], description=description)
            session.add(tasks[slug])
    session.flush()
    for (_, task, slug), content in archive.datasets.items():
        if session.scalar(select(Dataset.id).where(Dataset.task_id == tasks[task].id, Dataset.slug == slug)) is None:
            session.add(Dataset(task=tasks[task], **archive_reading.dataset(archive, content)))
    session.flush()


def _defaults(archive: Archive) -> Iterable[tuple[str, str]]:
    """The entry of each data set and base model that AdapterHub took where no configuration was named: Pfeiffer's.

    Of several, that of the organisation with the most entries.
    """
    found: dict[tuple[Any, ...], tuple[str, str]] = {}
    many = Counter(organisation for organisation, _ in archive.entries)

    def order(key: tuple[str, str]) -> tuple[Any, ...]:
        return archive.entries[key]["config"]["using"] != "pfeiffer", -many[key[0]], key

    for key in sorted(archive.entries, key=order):
        entry = archive.entries[key]
        found.setdefault((entry["model_name"], entry["type"], entry["task"], entry["subtask"]), key)
    return found.values()


def _put(
    session: Session, archive: Archive, organisation: str, name: str, entry: Mapping[str, Any], is_default: bool
) -> str:
    repository, new = _repository(session, organisation, name)
    before = session.get(Adapter, repository.id)
    if before is not None and before.origin is None:
        return "kept"
    origin = _origin(archive, organisation, name, entry)
    if before is not None and before.origin == origin:
        return "kept"
    said = _description(archive, name, entry)
    task = taxonomy.task(session, str(entry["task"]))
    dataset = taxonomy.dataset(session, task, str(entry["subtask"]), SERVER)
    base = bases.row(session, entry["model_name"], model_type=entry["model_type"])
    if base.config is None and (config := _CONFIGS.get(base.key)) is not None:
        bases.set_config(base, config)
    row = before or Adapter(repository_id=repository.id)
    row.oid = session.scalars(
        select(Ref.oid).where(Ref.repository_id == repository.id, Ref.name == repositories.MAIN)
    ).one()
    row.kind, row.format, row.method = "adapter", "adapters", "bottleneck"
    row.config_hash = config_hash({"method": row.method, **origin["config"]})
    row.base_id, row.task_id, row.dataset_id = base.id, task.id, dataset.id
    row.language = task.slug if task.kind == "language" else dataset.language
    row.head, row.is_default = _head(entry), is_default
    row.title, row.summary, row.origin = said.title, said.summary, origin
    session.add(row)
    session.flush()
    session.refresh(row)
    indexing.tag(session, repository.id, said.tags)
    scores.claim(session, row, [(dataset, one) for one in said.results])
    indexing.write_words(session, row, repository, said)
    for spec in (f"@{organisation}/{name}", f"{organisation}/{name}", f"{_ORGANISATION}/{name}"):
        put(session, Alias, {"spec": spec.lower()}, repository_id=repository.id)
    return "new" if new else "updated"


def _repository(session: Session, organisation: str, name: str) -> tuple[Repository, bool]:
    key = f"{organisation}/{name}".lower()
    if (found := session.scalar(select(Repository).where(Repository.key == key))) is not None:
        return found, False
    made = Repository(owner=_account(session, organisation), name=name, key=key)
    session.add(made)
    session.flush()
    first = repositories.add_commit(session, made, {}, None, SERVER, "The files are elsewhere")
    session.add(Ref(repository_id=made.id, kind="branch", name=repositories.MAIN, oid=first.oid))
    session.flush()
    return made, True


def _account(session: Session, name: str) -> Account:
    """An organisation by the name that it had; one of them has that of its task (``mlki``), and keeps it."""
    found = session.scalar(select(Account).where(Account.key == name.lower()))
    if found is None:
        about = "Published adapters on AdapterHub until 2024."
        found = Account(name=name, key=name.lower(), kind="organisation", about=about)
        session.add(found)
        session.flush()
    return found


def _origin(archive: Archive, organisation: str, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Where the files of an entry are, and all that its description has beside."""
    config = {key: value for key, value in entry["config"].items() if key != "using"}
    architecture = archive.architectures.get(entry["config"]["using"], {})
    kept = ("author", "email", "url", "github", "twitter", "citation", "description", "model_class", "hidden_size")
    return {
        "archive": f"@{organisation}/{name}",
        "hub": ELSEWHERE,
        "name": f"{_ORGANISATION}/{name}",
        "default_version": str(entry["default_version"]),
        "versions": [_version(one) for one in entry["files"]],
        "architecture": entry["config"]["using"],
        "config": {**architecture.get("config", {}), **config},
        "dependencies": [
            {"spec": one["key"], "description": one.get("description", "")} for one in entry.get("dependencies") or []
        ],
        **{key: entry[key].strip() if isinstance(entry[key], str) else entry[key] for key in kept if entry.get(key)},
    }


def _version(file: Mapping[str, Any]) -> dict[str, Any]:
    """A version, which is a branch there; ``url`` is where the file was at first, a ``.zip`` with this SHA-256."""
    made = {"name": str(file["version"]), "url": file["url"], "sha256": file["sha256"].lower()}
    return made | {key: file[key] for key in ("score", "description") if file.get(key) not in (None, "")}


def _description(archive: Archive, name: str, entry: Mapping[str, Any]) -> Description:
    text = " ".join((entry.get("description") or "").split())
    subject = archive.datasets[archive_reading.KINDS[entry["type"]], str(entry["task"]), str(entry["subtask"])]
    title = f"{subject.get('displayname') or entry['subtask']} for {entry['model_name']} ({entry['config']['using']})"
    results = [
        Result(subject["metric"]["name"], float(one["score"]))
        for one in entry["files"]
        if one.get("score") is not None and str(one["version"]) == str(entry["default_version"])
    ]
    versions = " ".join(str(one["version"]) for one in entry["files"])
    body = f"{text} {entry['author']} {entry['config']['using']} {versions} {entry.get('citation') or ''}"
    tags = ("adapterhub-archive", f"adapterhub:{entry['task']}/{entry['subtask']}".lower())
    return Description(title=title, summary=text[:300], body=body, tags=tags, results=tuple(results))


def _head(entry: Mapping[str, Any]) -> str:
    """The type of the head, where the class of the model tells; else that class itself."""
    if not entry.get("prediction_head"):
        return ""
    name = entry.get("model_class") or "unknown"
    return next((head for ending, head in _HEADS.items() if name.endswith(ending)), name)[:32]


_HEADS = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tagging",
    "ForQuestionAnswering": "question_answering",
    "ForMaskedLM": "masked_lm",
    "ForConditionalGeneration": "seq2seq_lm",
    "LMHeadModel": "causal_lm",
}


def _bert(vocab_size: int, size: str = "base", model_type: str = "bert") -> dict[str, Any]:
    hidden, layers, heads = {"base": (768, 12, 12), "large": (1024, 24, 16)}[size]
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": vocab_size,
    }


def _bart(d_model: int, layers: int, heads: int, vocab_size: int, model_type: str = "bart") -> dict[str, Any]:
    return {
        "model_type": model_type,
        "is_encoder_decoder": True,
        "d_model": d_model,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * d_model,
        "decoder_ffn_dim": 4 * d_model,
        "vocab_size": vocab_size,
    }


# What the models of the archive are like, as their own configurations on the Hugging Face Hub have it.
_CONFIGS: Mapping[str, dict[str, Any]] = {
    "aubmindlab/bert-base-arabert": _bert(64000),
    "bert-base-multilingual-cased": _bert(119547),
    "bert-base-multilingual-uncased": _bert(105879),
    "bert-base-uncased": _bert(30522),
    "distilbert-base-uncased": {
        "model_type": "distilbert",
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "vocab_size": 30522,
    },
    "facebook/bart-base": _bart(768, 6, 12, 50265),
    "facebook/bart-large": _bart(1024, 12, 16, 50265),
    "facebook/mbart-large-cc25": _bart(1024, 12, 16, 250027, "mbart"),
    "gpt2": {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "vocab_size": 50257},
    "roberta-base": _bert(50265, model_type="roberta"),
    "roberta-large": _bert(50265, "large", "roberta"),
    "xlm-roberta-base": _bert(250002, model_type="xlm-roberta"),
    "xlm-roberta-large": _bert(250002, "large", "xlm-roberta"),
}
