"""A LoRA for RoBERTa base in the format of PEFT, pushed with a card."""

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from adapterhub.errors import HubConflictError
from adapterhub.hub.server import blobs, commits, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Commit
from adapterhub.hub.server.hub import Hub

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"], "task_type": "SEQ_CLS"}


def push(
    hub: Hub,
    actor: Actor,
    name: str,
    card: str = "",
    *,
    owner: str = "",
    base: str = "roberta-base",
    hidden: int = 768,
    value: float = 1.0,
) -> Commit:
    """Put an adapter of one layer, and a card, into a repository, which is made if need be."""
    owner = owner or actor.name
    try:
        with hub.database.write() as session:
            repositories.create(session, actor, owner, name)
    except HubConflictError:
        pass
    at = "base_model.model.roberta.encoder.layer.0.attention.self.query"
    tensors = {f"{at}.lora_A.weight": (2, hidden), f"{at}.lora_B.weight": (hidden, 2)}
    weights = save({path: np.full(shape, value, np.float32) for path, shape in tensors.items()})
    files: dict[str, Any] = {
        "adapter_config.json": json.dumps(CONFIG | {"base_model_name_or_path": base}).encode(),
        "adapter_model.safetensors": weights,
        "README.md": card.encode(),
    }
    puts = [Put(path, blobs.receive(hub, actor, data, path)) for path, data in files.items()]
    return commits.publish(hub, actor, owner, name, "main", puts, Message("Push"))
