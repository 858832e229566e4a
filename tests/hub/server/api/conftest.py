"""Adapters to publish, made by hand: LoRA of PEFT on models of a few features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from adapterhub.hub.client.connection import Connection
from hub.server.protocol.conftest import Asked, ask, asked, prepared

__all__ = ["ask", "asked", "by_client", "lora", "placed", "prepared", "published"]


def lora(base: str = "roberta-base", hidden: int = 8, rank: int = 2, seed: int = 0, card: str = "") -> dict[str, bytes]:
    """The files of a LoRA on the queries of one layer."""
    numbers = np.random.default_rng(seed)
    path = "base_model.model.roberta.encoder.layer.0.attention.self.query"
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 4,
        "target_modules": ["query"],
        "task_type": "SEQ_CLS",
    }
    tensors = {
        f"{path}.lora_A.weight": numbers.normal(size=(rank, hidden)).astype(np.float32),
        f"{path}.lora_B.weight": numbers.normal(size=(hidden, rank)).astype(np.float32),
    }
    made = {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)}
    return made | ({"README.md": card.encode()} if card else {})


def placed(place: str, **given: Any) -> dict[str, bytes]:
    """The same, with a card that puts it into the catalogue."""
    return lora(card=f"---\ntags: [adapterhub:{place}]\n---\n# {place}\n", **given)


@pytest.fixture
def published(asked: Asked) -> Asked:
    """A hub with two adapters of ann (one private) and one of bob."""
    asked.publish("movies", placed("sentiment/sst-2"))
    asked.publish("secret", placed("sentiment/sst-2", seed=1), private=True)
    asked.publish("films", placed("sentiment/sst-2", base="bert-base-uncased", seed=2), user="bob")
    return asked


@pytest.fixture
def by_client(asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Has the client of the library ask this application; returns the address of it."""
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Connection, "__init__", lambda self, address: self.__dict__.update(address=address))
    monkeypatch.setattr(Connection, "__exit__", lambda *_: None)
    monkeypatch.setattr(Connection, "_client", asked.client, raising=False)
    return "http://hub.test"
