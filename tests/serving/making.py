"""A tiny model and a folder of adapters of many kinds for it."""

from pathlib import Path
from typing import Any

import torch

import tokens
from adapterhub import AutoAdapterModel

# name: configuration, and what adds a head to a model
KINDS: dict[str, tuple[str, Any]] = {
    "sentiment": (
        "seq_bn[reduction_factor=4]",
        lambda m, n: m.add_classification_head(n, id2label={0: "bad", 1: "good"}),
    ),
    "topics": ("lora", lambda m, n: m.add_classification_head(n, num_labels=3, multilabel=True)),
    "stars": ("prompt_tuning", lambda m, n: m.add_classification_head(n, num_labels=1)),
    "names": ("par_bn[reduction_factor=4]", lambda m, n: m.add_tagging_head(n, id2label={0: "O", 1: "B-X", 2: "I-X"})),
    "answers": ("prefix_tuning", lambda m, n: m.add_qa_head(n)),
    "vectors": ("ia3", lambda m, n: m.add_custom_head("sentence_embedding", n)),
    "words": ("seq_bn_inv[reduction_factor=4]", lambda m, n: m.add_masked_lm_head(n)),
    "german": ("seq_bn_inv[reduction_factor=4]", lambda m, n: None),
}


def base(folder: Path, seed: int = 0) -> Path:
    """The folder of a base model with a tokenizer."""
    tokens.model_folder(folder)
    if seed:
        torch.manual_seed(seed)
        model = AutoAdapterModel.from_pretrained(folder)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder)
    return folder


def model_with(folder: Path, names: tuple[str, ...] = tuple(KINDS), seed: int = 1) -> Any:
    """A base model with random adapters and heads of these names."""
    model: Any = AutoAdapterModel.from_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        config, add_head = KINDS[name]
        model.add_adapter(name, config=config)
        add_head(model, name)
        modules = [model.adapters[name], *([model.heads[name]] if name in model.heads else [])]
        with torch.no_grad():
            for parameter in (one for module in modules for one in module.parameters()):
                parameter.normal_(std=0.3, generator=generator)
    model.active_head = None
    return model.eval()


def save(model: Any, folder: Path) -> None:
    """Every adapter of a model, in a folder of its name."""
    for name in model.adapters:
        model.save_adapter(folder / name, name)
