"""Folders of PEFT: ``adapter_config.json`` with a ``peft_type``, beside a file of tensors."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from re import Pattern
from types import ModuleType
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.entries import Content
from adapterhub.checkpoints.foreign import json_bytes, read_json, read_tensors
from adapterhub.checkpoints.peft import experts, ia3, lora, norms, prefix, prompt, vera
from adapterhub.checkpoints.peft.layout import CONFIG, PICKLE, WEIGHTS, PeftLayout, check_targets
from adapterhub.checkpoints.tensors import encode_plainly
from adapterhub.errors import CheckpointError, CorruptCheckpointError
from adapterhub.methods import AdapterConfig
from adapterhub.methods.targets import at_the_end, check_expressions, expressions

VERSION = "0.21.2"  # of the format that is written
_PREFIX = "base_model.model."
Given = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """A type of PEFT's, in both directions.

    ``owner`` finds the path of a module in a key; ``owns`` tells the adapter's tensors from others; ``config`` makes a
    configuration; ``read`` the tensors of an adapter of that configuration; ``write`` options and tensors.
    """

    owner: Pattern[str]
    owns: Callable[[str, Given], bool]
    config: Callable[[Given, Tensors, PeftLayout, Mapping[str, str]], AdapterConfig]
    read: Callable[[Content, Tensors, PeftLayout, Given, str], dict[str, Tensor]]
    write: Callable[[Content, PeftLayout], tuple[dict[str, Any], dict[str, Tensor]]]


def _kind(module: ModuleType) -> Kind:
    return Kind(module.OWNER, module.owns, module.config, module.read, module.write)


KINDS = {
    "LORA": _kind(lora),
    "IA3": _kind(ia3),
    "VERA": _kind(vera),
    "LN_TUNING": _kind(norms),
    "PREFIX_TUNING": _kind(prefix),
    "PROMPT_TUNING": _kind(prompt),
    "P_TUNING": _kind(prompt),
}
_OF_PROMPTS = ("PREFIX_TUNING", "PROMPT_TUNING")
_METHODS = {
    "lora": "LORA",
    "ia3": "IA3",
    "vera": "VERA",
    "ln_tuning": "LN_TUNING",
    "prefix_tuning": "PREFIX_TUNING",
    "prompt_tuning": "PROMPT_TUNING",
}


@dataclass(frozen=True)
class PeftCheckpoint:
    """What a folder of PEFT's holds.

    Attributes:
        folder: where it is.
        given: its ``adapter_config.json``.
        tensors: of the adapter, by their names there without what all begin with.
        others: what was trained beside the adapter, a head for example, by its path in the model.
    """

    folder: Path
    given: Given
    tensors: Tensors
    others: Tensors

    @property
    def name(self) -> str:
        """That of the folder: PEFT keeps none."""
        return self.folder.resolve().name.replace(".", "-")

    def config(self, layout: PeftLayout) -> AdapterConfig:
        """The configuration of this library that acts as this checkpoint does.

        Raises:
            CheckpointError: for what this library has no equal of.
            ConfigError: if what should be a regular expression is none.
            TensorMismatchError: if a module that it adapts is not there.
        """
        check_expressions(_expressions(self.given), str(self.folder))
        found = self._found(layout)
        owner = self._kind.owner
        origin = {
            match["path"]: there["path"]
            for here, key in zip(found, self._named(layout), strict=True)
            if (match := owner.fullmatch(here)) is not None
            and (there := owner.fullmatch(key)) is not None
            and match["path"]
        }
        check_targets(self.given, origin, layout, self.folder)
        return self._kind.config(self.given, found, layout, origin)

    def read(self, content: Content, layout: PeftLayout) -> dict[str, Tensor]:
        """The tensors of this adapter by their names here; ``content`` is that of a new one of its configuration.

        Raises:
            TensorMismatchError: if some are missing or left over.
        """
        return self._kind.read(content, self._found(layout), layout, self.given, str(self.folder))

    @property
    def _kind(self) -> Kind:
        return KINDS[self.given["peft_type"]]

    def _found(self, layout: PeftLayout) -> dict[str, Tensor]:
        base = self.given.get("base_model_name_or_path")
        return layout.aligned(self._named(layout), self._kind.owner, self.folder, base)

    def _named(self, layout: PeftLayout) -> Tensors:
        """The tensors, those of experts by the paths of the parameters that they are for."""
        targets = self.given.get("target_parameters")
        return experts.by_parameter(self.tensors, targets, layout.places, self.folder) if targets else self.tensors


def read_peft(folder: Path, allow_pickle: bool) -> PeftCheckpoint | None:
    """Read a checkpoint of PEFT; None if the folder holds none.

    Raises:
        CheckpointError: for a method of which this library has no equal.
        CheckpointNotFoundError: if its tensors are not there, or are pickled and ``allow_pickle`` is False.
        CorruptCheckpointError: if a file is truncated, altered, outside of the folder, or not that of an adapter.
    """
    given = read_json(folder, CONFIG)
    if given is None or "peft_type" not in given:
        return None
    kind = KINDS.get(str(given["peft_type"]))
    if kind is None:
        known = ", ".join(KINDS)
        raise CheckpointError(f"{folder} is of PEFT's type {given['peft_type']}; {known} can be read")
    tensors: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in read_tensors(folder, WEIGHTS, PICKLE, allow_pickle).items():
        key = name.removeprefix(_PREFIX).removeprefix("base_model.")
        own = kind.owns(key, given)
        (tensors if own else others)[key if own else key.replace(".base_layer.", ".")] = tensor
    if not tensors:
        raise CorruptCheckpointError(f"{folder} holds no tensor of {given['peft_type']}")
    return PeftCheckpoint(folder, given, tensors, others)


def peft_files(content: Content, layout: PeftLayout, others: Tensors, about: Given) -> dict[str, bytes]:
    """The files of an adapter; ``others`` are trained modules by their paths, ``about`` what is said of the model.

    Raises:
        CheckpointError: for a method or an option of which PEFT has no equal.
    """
    kind = _METHODS.get(content.config.method)
    if kind is None:
        raise CheckpointError(
            f"PEFT has no equal of the method {content.config.method!r}: save in the format of adapterhub or adapters"
        )
    given, tensors = KINDS[kind].write(content, layout)
    outer = "base_model." if kind in _OF_PROMPTS else _PREFIX  # where PEFT keeps the model itself
    named = {_named(key): tensor for key, tensor in tensors.items()}
    named |= {f"{outer}{key}": tensor for key, tensor in others.items()}
    saved = sorted({key.partition(".")[0] for key in others})
    values = dict(about) | {
        "modules_to_save": saved or None,
        "inference_mode": True,
        "revision": None,
        "peft_version": VERSION,
        **given,
    }
    if kind in _OF_PROMPTS and values.get("task_type") is None:  # without a task, PEFT runs the model without them
        writes = values["auto_mapping"]["base_model_class"].endswith("ForConditionalGeneration")
        values["task_type"] = "SEQ_2_SEQ_LM" if writes else "FEATURE_EXTRACTION"
    return {WEIGHTS: encode_plainly(named, WEIGHTS), CONFIG: json_bytes(values, CONFIG)}


def _named(key: str) -> str:
    if key == "prompt_embeddings":
        return key
    return f"base_model.{key}" if key in ("vera_A", "vera_B") else f"{_PREFIX}{key}"


def _expressions(given: Given) -> Iterator[str]:
    """What PEFT reads as regular expressions: modules that are named by one text, and the modules of patterns."""
    for option in ("target_modules", "exclude_modules"):
        yield from expressions(given.get(option))
    for option in ("rank_pattern", "alpha_pattern"):
        yield from map(at_the_end, given.get(option) or ())
