"""What is known of an adapter from its files alone: ``AdapterInfo``, JSON-ready both ways."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from adapterhub.errors import CorruptCheckpointError
from adapterhub.fingerprint import Fingerprint

_SCHEME = "cfg:v1:"
# What acts in training alone, or says where a configuration came from.
_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "composition_mode",
    "dropout",
    "dropout_prob",
    "dtype",
    "ensure_weight_tying",
    "feedforward_dropout",
    "hypercomplex_nonlinearity",
    "inference_mode",
    "init_ia3_weights",
    "init_lora_weights",
    "init_weights",
    "init_weights_seed",
    "learn_phm",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "phm_c_init",
    "phm_init_range",
    "prompt_init",
    "prompt_init_text",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "random_uniform_scale",
    "regularization",
    "revision",
    "stochastic_depth",
    "task_type",
    "tokenizer_name_or_path",
    "value_initialized",
    "vera_b",
    "vera_d",
    "vera_dropout",
}


class Need(NamedTuple):
    """What a part of an adapter asks of a base: at ``module`` of ``layer`` so many features come in, and go out.

    ``module`` is the whole path as the format names it: of modules of the base in PEFT and ``adapters``
    (``bert.encoder.layer.0.attention.self.query``), of sites in the native format (``layers.0.attention.q``). A
    tensor that is of no module stands for itself (``prompt_embeddings``). ``layer`` is the first number within it,
    None outside of layers; a number of features that the tensors do not tell is None. Of a fused weight, ``adapters``
    may adapt parts alone, and ``gives`` is then the sum of theirs.
    """

    layer: int | None
    module: str
    reads: int | None
    gives: int | None


@dataclass(frozen=True)
class HeadInfo:
    """A prediction head: its type (of this library, or the class that it is part of), labels and their number."""

    type: str
    labels: tuple[str, ...] | None = None
    num_labels: int | None = None


@dataclass(frozen=True)
class AdapterInfo:
    """What the files of a repository hold.

    Attributes:
        kind: ``"adapter"``, ``"fusion"``, ``"head"``, ``"embeddings"``, or ``"composition"`` for a whole setup.
        format: ``"adapterhub"``, ``"adapters"`` or ``"peft"``.
        name: that of the adapter, or None where the format keeps none.
        method: the name of this library's registry (``"lora"``, ``"union"``), the type of PEFT in small letters for
            those that are not in it; the kind itself where that is no adapter.
        methods: those of the members of a union or setup, else the one.
        config: the configuration as the format has it, with the ``method`` in the words of this library.
        config_hash: ``config_hash`` of it.
        rank, reduction_factor: as configured, where the method has them.
        parameters, dtypes: of the adapter's tensors, without those of the head.
        size: bytes of the weights files, with those of the head.
        base, base_revision: the base model that the files name.
        fingerprint: what tells the base model from others, in the native format.
        model_type, model_class: of the model that it was made from.
        hidden_size: of the base, as declared or else as the tensors tell; None where neither does.
        layers: of the base, of encoder and decoder together, where it is declared.
        head: the prediction head beside it.
        task, dataset, languages: as far as the manifest says.
        pairs: whether it was trained on pairs of texts, as far as the manifest says.
        needs: what it asks of a base.
        members: of a setup, by the names of their folders.
        files: the files that were read.
    """

    kind: str
    format: str
    name: str | None
    method: str
    methods: tuple[str, ...]
    config: Mapping[str, Any]
    config_hash: str
    parameters: int
    dtypes: tuple[str, ...]
    size: int
    rank: int | None = None
    reduction_factor: float | None = None
    base: str | None = None
    base_revision: str | None = None
    fingerprint: Fingerprint | None = None
    model_type: str | None = None
    model_class: str | None = None
    hidden_size: int | None = None
    layers: int | None = None
    head: HeadInfo | None = None
    task: str | None = None
    dataset: str | None = None
    languages: tuple[str, ...] = ()
    pairs: bool = False
    needs: tuple[Need, ...] = ()
    members: "Mapping[str, AdapterInfo]" = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        values["config"] = dict(self.config)
        for name in ("methods", "dtypes", "languages", "files"):
            values[name] = list(values[name])
        values["needs"] = [list(need) for need in self.needs]
        values["fingerprint"] = None if self.fingerprint is None else self.fingerprint.to_dict()
        head = self.head
        labels = None if head is None or head.labels is None else list(head.labels)
        values["head"] = None if head is None else {"type": head.type, "labels": labels, "num_labels": head.num_labels}
        values["members"] = {name: member.to_dict() for name, member in self.members.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the description of an adapter") -> Self:
        """Read back what ``to_dict`` gave; keys that a later version may have added are passed over.

        Raises:
            CorruptCheckpointError: if it is not what ``to_dict`` gives.
        """
        try:
            known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
            for name in ("methods", "dtypes", "languages", "files"):
                known[name] = tuple(known.get(name, ()))
            known["needs"] = tuple(Need(*need) for need in known.get("needs", ()))
            if (saved := known.get("fingerprint")) is not None:
                known["fingerprint"] = Fingerprint.from_dict(saved, where)
            if (head := known.get("head")) is not None:
                labels = head["labels"]
                known["head"] = HeadInfo(head["type"], None if labels is None else tuple(labels), head["num_labels"])
            known["members"] = {name: cls.from_dict(one, where) for name, one in known.get("members", {}).items()}
            return cls(**known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptCheckpointError(f"{where} is not what AdapterInfo.to_dict gives: {error!r}") from error


def config_hash(config: Mapping[str, Any]) -> str:
    """A digest of what a configuration does: ``cfg:v1:`` and 16 hexadecimal digits of SHA-256.

    Left out are options of training and initialisation, names of versions and bases, and values that are off (None,
    False, empty): an option that a later version adds, and that is off, changes no digest. 16.0 is 16.
    """
    text = json.dumps(_canonical(config), sort_keys=True, separators=(",", ":"))
    return _SCHEME + hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _canonical(one) for key, one in value.items() if key not in _WITHOUT_EFFECT}
        return {
            key: one for key, one in kept.items() if one is not None and one is not False and one not in ("", [], {})
        }
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
