"""LoRA, rsLoRA and DoRA as PEFT writes them, with patterns, biases and tokens that were trained beside."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, shaped, to_theirs
from adapterhub.checkpoints.lowrank import written_out
from adapterhub.checkpoints.peft import tokens
from adapterhub.checkpoints.peft.layout import PeftLayout, shortest, simplest
from adapterhub.checkpoints.peft.parts import joined
from adapterhub.errors import CheckpointError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.methods.bitfit import BitFitConfig
from adapterhub.methods.lora import LoRAConfig
from adapterhub.methods.targets import at_the_end
from adapterhub.methods.union import ConfigUnion

OWNER = re.compile(
    r"(?P<path>.+?)\.(?:lora_(?:embedding_)?[AB](?:\.(?:weight|bias))?|lora_magnitude_vector(?:\.weight)?"
    r"|token_adapter\.trainable_tokens_delta|base_layer\.bias|bias)"
)
# Options that change what is computed, of which this library has no equal.
_FOREIGN = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
# Initialisations that leave the base model as it is, so that a checkpoint does not depend on them.
_HARMLESS = (True, False, None, "gaussian", "eva", "orthogonal")
# Those that change it in a way that follows from it.
_REPEATABLE = ("pissa", "olora")


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    if OWNER.fullmatch(key) is None:
        return False
    if not key.endswith(".bias") or ".lora_" in key or key.endswith(".base_layer.bias"):
        return True
    saved = given.get("modules_to_save") or ()
    return given.get("bias") == "all" and not any(f".{name}." in f".{key}" for name in saved)


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> AdapterConfig:
    """The configuration that acts as the ``given`` one; ``origin`` says what paths were in the model that was trained.

    Raises:
        CheckpointError: for what this library has no equal of.
    """
    if foreign := [name for name in _FOREIGN if given.get(name)]:
        raise CheckpointError(f"it uses {', '.join(foreign)} of PEFT, which have no equal here")
    start = given.get("init_lora_weights", True)
    if start not in (*_HARMLESS, *_REPEATABLE):
        raise CheckpointError(
            f"it was begun by init_lora_weights={start!r}, which changes the base model. Convert it by PEFT's "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )
    downs = {key.removesuffix(f".{leaf}"): found[key] for key in found if (leaf := _down(key))}
    ranks = {path: tensor.shape[_rank_dim(layout.by_path[path])] for path, tensor in downs.items()}
    made = LoRAConfig(
        target_modules=tuple(sorted(ranks)),
        r=given.get("r", 8),
        alpha=given.get("lora_alpha", 8),
        dropout=given.get("lora_dropout", 0.0),
        use_rslora=bool(given.get("use_rslora")),
        use_dora=bool(given.get("use_dora")),
        bias=given.get("bias") == "lora_only" or any(key.endswith(".lora_B.bias") for key in found),
        init_weights=start if start in _REPEATABLE else "lora",
    )
    short = made.replace(target_modules=shortest(given.get("target_modules"), ranks))
    made = simplest((short,), made, layout.places)
    patterns = given.get("alpha_pattern") or {}
    alphas = {path: _alpha(origin[path], patterns, made.alpha) for path in ranks}
    made = made.replace(
        rank_pattern={re.escape(path): rank for path, rank in ranks.items() if rank != made.r},
        alpha_pattern={re.escape(path): alpha for path, alpha in alphas.items() if alpha != made.alpha},
    )
    beside = [BitFitConfig()] if given.get("bias") == "all" else []
    members = [made, *beside, *tokens.configs(found, layout)]
    return ConfigUnion(*members) if len(members) > 1 else made


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    _, found = tokens.split(all_found := found)
    if not isinstance(content.config, ConfigUnion):
        return _read(content, found, layout, what)
    (_, one), *others = content.members()
    beside = tokens.read(all_found, layout, given)
    if isinstance(content.config.configs[1], BitFitConfig):
        biases = {_plain(key): found[key] for key in found if _is_bias(key)}
        found = {key: tensor for key, tensor in found.items() if not _is_bias(key)}
        beside = [from_theirs(_shifts(others[0][1], layout), biases, what), *beside]
    made = _read(one, found, layout, what)
    members = [("0.", made), *((before, own) for (before, _), own in zip(others, beside, strict=True))]
    return {f"{before}{name}": tensor for before, own in members for name, tensor in own.items()}


def _read(content: Content, found: Mapping[str, Tensor], layout: PeftLayout, what: str) -> dict[str, Tensor]:
    """The tensors of a LoRA, to whose offsets the changes of biases belong."""
    biases = {_plain(key): found[key] for key in found if _is_bias(key)}
    rest = {key: tensor for key, tensor in found.items() if not _is_bias(key)}
    listed = [one for one in entries(content, layout) if one.key in rest or not (biases and "lora_B.bias" in one.key)]
    made = from_theirs(listed, rest, what)
    for name in (name for name in content.tensors if biases and name.endswith(".bias")):
        place = layout.by_name[name.removesuffix(".bias")]
        moved = biases[f"{place.path}.bias"] - _bias(place) if f"{place.path}.bias" in biases else torch.zeros(1)
        made[name] = (made.get(name, torch.zeros(1)) + moved).expand(content.tensors[name].shape)
    return made


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    assert isinstance(content.config, LoRAConfig)
    if content.config.use_gating:
        raise CheckpointError("PEFT has no LoRA with gates (use_gating): save in the format of adapterhub or adapters")
    content = joined(written_out(content), layout)
    made = content.config
    assert isinstance(made, LoRAConfig)
    places = [layout.by_name[site] for site in content.sites("lora_A")]
    if experts := [place.path for place in places if place.expert_weight is not None]:
        raise CheckpointError(
            f"{experts[0]}: how PEFT keeps factors for experts depends on the version of transformers that it runs "
            "with. Save in the format of adapterhub."
        )
    ranks = {place: len(content.tensors[f"{place.name}.lora_A"]) for place in places}
    alphas = {
        place: _whole(made.scaling(place) * (math.sqrt(r) if made.use_rslora else r)) for place, r in ranks.items()
    }
    alpha = _whole(made.alpha)
    options = {
        "peft_type": "LORA",
        "r": made.r,
        "lora_alpha": alpha,
        "lora_dropout": made.dropout,
        "use_rslora": made.use_rslora,
        "use_dora": made.use_dora,
        "lora_bias": made.bias,
        "bias": "none",
        "init_lora_weights": True,
        "target_modules": layout.targets(place.path for place in places),
        "rank_pattern": {re.escape(place.path): rank for place, rank in ranks.items() if rank != made.r},
        "alpha_pattern": {re.escape(place.path): own for place, own in alphas.items() if own != alpha},
    }
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    assert isinstance(content.config, LoRAConfig)
    for site in content.sites("lora_A"):
        place = layout.by_name[site]
        inner = 0 if place.weight is None else content.tensors[f"{site}.lora_A"].dim() - 2  # 1 or 2 of a convolution
        if place.role == "embedding":
            yield same(f"{place.path}.lora_embedding_A", f"{site}.lora_A")
            yield same(f"{place.path}.lora_embedding_B", f"{site}.lora_B")
        elif place.expert_weight is not None:
            yield same(f"{place.path}.lora_A.weight", f"{site}.lora_A")
            yield same(f"{place.path}.lora_B.weight", f"{site}.lora_B")
        else:
            out, rank = content.tensors[f"{site}.lora_B"].shape
            yield same(f"{place.path}.lora_A.weight", f"{site}.lora_A")
            yield shaped(f"{place.path}.lora_B.weight", f"{site}.lora_B", (out, rank, *(1,) * inner), (out, rank))
        if (name := f"{site}.magnitude") in content.tensors:
            size = len(content.tensors[name])
            form = (1, size, *(1,) * inner) if inner else (size,)
            yield shaped(f"{place.path}.lora_magnitude_vector", name, form, (size,))
        if (name := f"{site}.bias") in content.tensors:
            yield _scaled(f"{place.path}.lora_B.bias", name, content.config.scaling(place))


def _scaled(key: str, name: str, scaling: float) -> Entry:
    """A bias, which PEFT multiplies by the scaling of the product."""
    return Entry(
        key, (name,), lambda tensor: (scaling * tensor.float(),), lambda tensors: tensors[0] / (scaling or 1.0)
    )


def _shifts(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """Biases, of which the change is kept here."""
    for name in content.tensors:
        place = layout.by_name[name.removesuffix(".shift")]
        yield _moved(f"{place.path}.bias", name, _bias(place))


def _moved(key: str, name: str, base: Tensor) -> Entry:
    return Entry(key, (name,), lambda tensor: (tensor.float() - base,))


def _bias(place: Place) -> Tensor:
    """That of the base model."""
    module: Any = place.norm if place.weight is None else place.weight
    bias: Tensor = module.bias
    return bias.detach().float().cpu()


def _is_bias(key: str) -> bool:
    """Whether a tensor is a bias of the base model."""
    return key.endswith(".bias") and not key.endswith(".lora_B.bias")


def _plain(key: str) -> str:
    return key.replace(".base_layer.bias", ".bias")


def _down(key: str) -> str:
    return next((leaf for leaf in ("lora_A.weight", "lora_embedding_A") if key.endswith(f".{leaf}")), "")


def _rank_dim(place: Place) -> int:
    """Where the rank stands in the shape of a lora_A: after the number of experts, where there are some."""
    return 0 if place.expert_weight is None else 1


def _whole(value: float) -> float:
    """A number, written without a fraction where it has none."""
    near = round(value)
    return near if math.isclose(value, near, rel_tol=1e-9) else value


def _alpha(path: str, patterns: Mapping[str, float], default: float) -> float:
    """PEFT's rule: the first pattern that fits the end of a path."""
    fits = (alpha for pattern, alpha in patterns.items() if re.fullmatch(at_the_end(pattern), path))
    return next(fits, default)
