"""Files of an adapter as PEFT writes them, of any size, without PEFT."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save


def lora(
    base: str = "roberta-base", *, rank: int = 2, size: int = 8, layers: int = 2, seed: int = 0
) -> dict[str, bytes]:
    """A LoRA on the queries of a RoBERTa of this size: its weights, configuration and card."""
    numbers = np.random.default_rng(0)
    tensors = {}
    for layer in range(layers):
        name = f"base_model.model.roberta.encoder.layer.{layer}.attention.self.query"
        tensors[f"{name}.lora_A.weight"] = numbers.standard_normal((rank, size), dtype=np.float32)
        tensors[f"{name}.lora_B.weight"] = numbers.standard_normal((size, rank), dtype=np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "target_modules": ["query"],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    card = f"---\nlibrary_name: peft\nbase_model: {base}\ntags: [sentiment, lora]\nlicense: mit\n---\n# An adapter\n"
    return {
        "README.md": card.encode(),
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "adapter_model.safetensors": save(tensors),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Put files into a folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
