"""A hub with something to look at: small adapters of three methods, with random weights and cards that say so."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from sqlalchemy.orm import Session

from adapterhub.hub.server import accounts, blobs, commits, likes, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.archive import import_archive
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.hub import Hub

PASSWORD = "a good long password"
CARD = """---
license: {license}
tags: [adapterhub:{place}, demo]
base_model: {base}
language: {language}
model-index:
- name: {name}
  results:
  - task: {{type: text-classification}}
    dataset: {{name: {place}, type: {place}}}
    metrics: [{{type: accuracy, value: {score}}}]
---

# {title}

{title}, for `{base}`. **Its weights are random numbers**: it is here so that this site has something to show.

## Intended use

Look at it. It classifies nothing.

| split | examples | accuracy |
|---|---|---|
| train | 67,349 | claimed, not run |
| validation | 872 | claimed, not run |

## Training

```python
trainer = AdapterTrainer(model=model, args=arguments, train_dataset=train)
trainer.train()
```
"""


def fill(hub: Hub, archive: Path | None = None) -> None:
    """Put people, an organisation and adapters into a hub; also the entries of an archive."""
    if archive is not None:
        import_archive(hub, archive)
    with hub.database.write() as session:
        made = [accounts.add_user(session, name, PASSWORD, full_name=full) for name, full in PEOPLE]
        lab = accounts.add_organisation(session, "stitch-lab", made[0].id, full_name="Stitch Lab")
        lab.about = "Small parts for large models."
        accounts.set_role(session, lab, made[1], "write")
        made[0].is_admin = True
        ada, ben = (accounts.actor(one) for one in made)
    for owner, name, files in _adapters():
        publish(hub, ada, owner, name, files)
    publish(hub, ada, "stitch-lab", "mnli-then-sst2", _composition(hub, ada))
    with hub.database.write() as session:
        _activity(session, [ada, ben])


def publish(hub: Hub, actor: Actor, owner: str, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
    """Publish files; returns the commit."""
    with hub.database.write() as session:
        repositories.create(session, actor, owner, name, private=private)
    changes = [Put(path, blobs.receive(hub, actor, data, path)) for path, data in files.items()]
    return commits.publish(hub, actor, owner, name, "main", changes, Message(f"Add {name}")).oid


PEOPLE = [("ada", "Ada Fields"), ("ben", "Ben Osei")]
_ROBERTA, _BERT = "FacebookAI/roberta-base", "google-bert/bert-base-uncased"


def _adapters() -> Iterator[tuple[str, str, dict[str, bytes]]]:
    yield "stitch-lab", "roberta-base-sst2-lora", _with_card(lora(_ROBERTA), "SST-2 by LoRA", "sentiment/sst-2", 0.941)
    yield (
        "ada",
        "roberta-base-sst2-pfeiffer",
        _with_card(
            with_head(bottleneck(_ROBERTA, "sst-2"), "classification"),
            "SST-2 by a bottleneck",
            "sentiment/sst-2",
            0.938,
        ),
    )
    yield (
        "ben",
        "bert-base-imdb-lora-r16",
        _with_card(
            lora(_BERT, rank=16, modules=("query", "key", "value")), "IMDB by LoRA", "sentiment/imdb", 0.913, _BERT
        ),
    )
    yield (
        "ada",
        "roberta-base-mnli-lora-all",
        _with_card(
            lora(_ROBERTA, modules=("query", "value", "intermediate.dense", "output.dense")),
            "MultiNLI by LoRA on every weight",
            "nli/multinli",
            0.872,
        ),
    )


def _composition(hub: Hub, actor: Actor) -> dict[str, bytes]:
    """An adapter over another, each pinned."""
    members = {"mnli": ("ada", "roberta-base-mnli-lora-all"), "sst-2": ("stitch-lab", "roberta-base-sst2-lora")}
    with hub.database.read() as session:
        heads = {
            name: repositories.revision(session, repositories.find(session, actor, *where), "main").oid
            for name, where in members.items()
        }
    recipe = {
        "format": "adapterhub-composition",
        "version": 1,
        "base": _ROBERTA,
        "members": {name: f"{owner}/{repository}@{heads[name]}" for name, (owner, repository) in members.items()},
        "composition": {"type": "Stack", "children": [{"type": "single", "children": [name]} for name in members]},
    }
    card = f"---\nbase_model: {_ROBERTA}\ntags: [demo]\n---\n# Inference below sentiment\n\nTwo random adapters.\n"
    return {"README.md": card.encode(), "composition.json": json.dumps(recipe, indent=2).encode()}


def lora(
    base: str, *, rank: int = 8, modules: tuple[str, ...] = ("query", "value"), layers: int = 12
) -> dict[str, bytes]:
    """A LoRA as PEFT writes it."""
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.1,
        "bias": "none",
        "task_type": "FEATURE_EXTRACTION",
        "target_modules": sorted(modules),
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    values, tensors = np.random.default_rng(0), {}
    for layer in range(layers):
        for module in modules:
            where = module if "." in module else f"attention.self.{module}"
            out, into = {"intermediate.dense": (3072, 768), "output.dense": (768, 3072)}.get(module, (768, 768))
            stem = f"base_model.model.encoder.layer.{layer}.{where}"
            tensors[f"{stem}.lora_A.weight"] = values.normal(0, 0.02, (rank, into)).astype("float32")
            tensors[f"{stem}.lora_B.weight"] = values.normal(0, 0.02, (out, rank)).astype("float32")
    return {
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "adapter_model.safetensors": save(tensors, {"format": "pt"}),
    }


def bottleneck(base: str, name: str, *, layers: int = 12, width: int = 48) -> dict[str, bytes]:
    """A bottleneck as ``adapters`` writes it."""
    config = {
        "config": {
            "architecture": None,
            "mh_adapter": False,
            "output_adapter": True,
            "reduction_factor": 16,
            "non_linearity": "relu",
            "original_ln_before": True,
            "original_ln_after": True,
            "residual_before_ln": True,
        },
        "hidden_size": 768,
        "model_class": "RobertaAdapterModel",
        "model_name": base,
        "model_type": "roberta",
        "name": name,
        "version": "adapters.1.3.0",
    }
    values, tensors = np.random.default_rng(1), {}
    for layer in range(layers):
        stem = f"roberta.encoder.layer.{layer}.output.adapters.{name}"
        tensors[f"{stem}.adapter_down.0.weight"] = values.normal(0, 0.02, (width, 768)).astype("float32")
        tensors[f"{stem}.adapter_down.0.bias"] = np.zeros(width, "float32")
        tensors[f"{stem}.adapter_up.weight"] = values.normal(0, 0.02, (768, width)).astype("float32")
        tensors[f"{stem}.adapter_up.bias"] = np.zeros(768, "float32")
    return {"adapter_config.json": json.dumps(config, indent=2).encode(), "adapter.safetensors": save(tensors)}


def with_head(
    files: dict[str, bytes], kind: str, labels: tuple[str, ...] = ("negative", "positive")
) -> dict[str, bytes]:
    """A bottleneck with a head of a kind, as ``adapters`` writes it."""
    known = json.loads(files["adapter_config.json"])
    label2id = {label: index for index, label in enumerate(labels)}
    config = {"head_type": kind, "num_labels": len(labels), "layers": 1, "label2id": label2id}
    described = {
        name: known[name] for name in ("hidden_size", "model_class", "model_name", "model_type", "name", "version")
    }
    weights = np.random.default_rng(2).normal(0, 0.02, (len(labels), 768)).astype("float32")
    stem = f"heads.{known['name']}.1"
    return files | {
        "head_config.json": json.dumps({**described, "config": config}, indent=2).encode(),
        "model_head.safetensors": save({f"{stem}.weight": weights, f"{stem}.bias": np.zeros(len(labels), "float32")}),
    }


def _with_card(
    files: dict[str, bytes], title: str, place: str, score: float, base: str = _ROBERTA, license: str = "apache-2.0"
) -> dict[str, bytes]:
    card = CARD.format(
        title=title, place=place, score=score, base=base, license=license, language="en", name=title.lower()
    )
    return {"README.md": card.encode(), **files}


def _activity(session: Session, people: list[Actor]) -> None:
    """Likes, downloads and a tag, as there would be after a while."""
    lora = repositories.find(session, people[0], "stitch-lab", "roberta-base-sst2-lora")
    for one in people:
        likes.like(session, one, lora, True)
    lora.downloads = 1284
    repositories.find(session, people[0], "ada", "roberta-base-sst2-pfeiffer").downloads = 391
    repositories.add_tag(session, people[0], lora, "v1.0", "main", "The first version")
