"""Checkpoints of PEFT: its LoRA family and (IA)³, read into the configurations and names of this library.

A folder of PEFT's holds ``adapter_config.json`` with a ``peft_type``, and ``adapter_model.safetensors`` whose tensors
are named by the path of the base module that they act on. Pickles (``adapter_model.bin``) are not read.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.peft_experts import by_parameter
from adapterhub.checkpoints.tensors import decode
from adapterhub.errors import CheckpointError, CheckpointNotFoundError, CorruptCheckpointError, TensorMismatchError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.methods.ia3 import IA3Config
from adapterhub.methods.lora import LoRAConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LEAF = re.compile(
    r"(?:base_model\.model\.)?(?P<path>.+?)\."
    r"(?P<leaf>lora_(?:embedding_)?[AB]|lora_magnitude_vector|ia3_l)(?:\.(?P<part>weight|bias))?"
)
_NAMES = {
    "lora_A": "lora_A",
    "lora_B": "lora_B",
    "lora_embedding_A": "lora_A",
    "lora_embedding_B": "lora_B",
    "lora_magnitude_vector": "magnitude",
    "ia3_l": "scale",
}
# Options that change what is computed, of which this library has no equal.
_FOREIGN = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
# Initialisations that leave the base model as it is, so that a checkpoint does not depend on them.
_HARMLESS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class PeftCheckpoint:
    """What a folder of PEFT's holds.

    Attributes:
        folder: where it is.
        config: its ``adapter_config.json``.
        parts: for the path of each base module, the tensors of the adapter there by their names in this library.
        others: what was trained beside the adapter, a head for example, by its path in the model.
    """

    folder: Path
    config: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Tensor]]
    others: Mapping[str, Tensor]

    def converted(self, places: Sequence[Place]) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """The configuration of this library that acts as this checkpoint does, and the tensors by their names here.

        Raises:
            CheckpointError: for what this library has no equal of.
            TensorMismatchError: if a module that it adapts is not there.
        """
        if targets := self.config.get("target_parameters"):
            parts = by_parameter(self.parts, targets, places, self.folder)
            plain = {name: value for name, value in self.config.items() if name != "target_parameters"}
            return replace(self, config=plain, parts=parts).converted(places)
        modules = {place.path: place for place in places if place.whole and place.any_weight is not None}
        found = {path: modules[own] for path, own in self._paths(modules.keys()).items()}
        config = self._configuration(found, places)
        tensors: dict[str, Tensor] = {}
        for path, place in found.items():
            tensors |= {f"{place.name}.{name}": tensor for name, tensor in self.parts[path].items()}
            if "bias" in self.parts[path] and isinstance(config, LoRAConfig):  # PEFT scales it with the product
                tensors[f"{place.name}.bias"] = config.scaling(place) * self.parts[path]["bias"].float()
        return config, tensors

    def _paths(self, known: Collection[str]) -> dict[str, str]:
        """Paths in this model by those in the checkpoint: the model that it was made from may have had a head around
        what this one is, or the other way.
        """
        here, there = ({path.partition(".")[0] + "." for path in paths} for paths in (known, self.parts))
        for strip, add in [
            ("", ""),
            *((first, "") for first in sorted(there)),
            *(("", first) for first in sorted(here)),
        ]:
            paths = {path: add + path.removeprefix(strip) for path in self.parts}
            if all(path in known for path in paths.values()):
                return paths
        strange = sorted(path for path in self.parts if path not in known)
        raise TensorMismatchError(
            f"{self.folder} adapts modules that this model has not: {', '.join(strange[:5])}. Load the base model that "
            f"it was made for ({self.config.get('base_model_name_or_path') or 'not named'})."
        )

    def _configuration(self, found: Mapping[str, Place], places: Sequence[Place]) -> AdapterConfig:
        kind = self.config.get("peft_type")
        if kind == "IA3":
            return IA3Config()
        if kind == "LORA":
            return self._lora(found, places)
        raise CheckpointError(f"{self.folder} is of PEFT's type {kind}; LORA and IA3 can be read")

    def _lora(self, found: Mapping[str, Place], places: Sequence[Place]) -> LoRAConfig:
        given = self.config
        foreign = [name for name in _FOREIGN if given.get(name)]
        if foreign:
            raise CheckpointError(f"{self.folder} uses {', '.join(foreign)} of PEFT, which have no equal here")
        if given.get("bias", "none") != "none":
            raise CheckpointError(f"{self.folder} changes biases of the base model (bias={given['bias']!r})")
        start = given.get("init_lora_weights", True)
        if start not in (*_HARMLESS, "pissa"):
            raise CheckpointError(
                f"{self.folder} was begun by init_lora_weights={start!r}, which changes the base model. Convert it by "
                "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)."
            )
        config = LoRAConfig(
            target_modules=tuple(sorted(place.path for place in found.values())),
            r=given.get("r", 8),
            alpha=given.get("lora_alpha", 8),
            dropout=given.get("lora_dropout", 0.0),
            use_rslora=bool(given.get("use_rslora")),
            use_dora=bool(given.get("use_dora")),
            bias=any("bias" in tensors for tensors in self.parts.values()),
            init_weights="pissa" if start == "pissa" else "lora",
        )
        ranks = {path: int(tensors["lora_B"].shape[-1]) for path, tensors in self.parts.items() if "lora_A" in tensors}
        patterns = given.get("alpha_pattern") or {}
        alphas = {path: _alpha(path, patterns, config.alpha) for path in self.parts}
        names = given.get("target_modules")
        if isinstance(names, list):  # paths say it exactly, names say it in a line: where they mean the same
            short = config.replace(target_modules=tuple(sorted(names)))
            if all(short.acts_at(place) == config.acts_at(place) for place in places):
                config = short
        return config.replace(
            rank_pattern={re.escape(found[path].path): rank for path, rank in ranks.items() if rank != config.r},
            alpha_pattern={
                re.escape(found[path].path): alpha for path, alpha in alphas.items() if alpha != config.alpha
            },
        )


def read_peft(folder: Path) -> PeftCheckpoint | None:
    """Read a checkpoint of PEFT; None if the folder holds none.

    Raises:
        CheckpointNotFoundError: if its tensors are not there, or are pickled.
        CorruptCheckpointError: if its tensors are truncated, altered, or not those of an adapter.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "peft_type" not in config:
        return None
    try:
        data = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        pickled = (folder / "adapter_model.bin").exists()
        hint = " but adapter_model.bin, a pickle, which is not read: save it anew by a recent PEFT" if pickled else ""
        raise CheckpointNotFoundError(f"{folder} holds no {WEIGHTS}{hint}") from None
    parts: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for key, tensor in decode(data, str(folder / WEIGHTS)).items():
        match = _LEAF.fullmatch(key)
        if match is None:
            others[key.removeprefix("base_model.model.")] = tensor
            continue
        path, leaf, part = match["path"], match["leaf"], match["part"]
        name = "bias" if part == "bias" else _NAMES[leaf]
        parts.setdefault(path, {})[name] = _shaped(leaf, tensor)
    if not parts:
        raise CorruptCheckpointError(f"{folder / WEIGHTS} holds no tensor of LoRA or (IA)³")
    return PeftCheckpoint(folder, config, parts, others)


def _shaped(leaf: str, tensor: Tensor) -> Tensor:
    """A tensor in the shape that it has here: B of a convolution is a matrix, the vector of (IA)³ is one."""
    if leaf == "lora_B":
        return tensor.flatten(1) if tensor.dim() > 1 else tensor
    return tensor.flatten() if leaf in ("ia3_l", "lora_magnitude_vector") else tensor


def _alpha(path: str, patterns: Mapping[str, float], default: float) -> float:
    """PEFT's rule: the first pattern that fits the end of a path, as it was in the model that was trained."""
    fits = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", path))
    return next(fits, default)
