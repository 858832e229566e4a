"""Prediction heads: what they tell of themselves, checked against their tensors."""

from collections.abc import Mapping
from typing import Any

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.formats import number
from adapterhub.hub.inspecting.forms import Shape
from adapterhub.hub.inspecting.info import HeadInfo, Need

_CLASSIFIERS = (  # which score each label; classes of transformers are named for what they do
    "classification",
    "tagging",
    "ForImageClassification",
    "ForSequenceClassification",
    "ForTokenClassification",
)
_BARE = ("sentence_embedding", "causal_lm", "seq2seq_lm")  # a mean, or the words of the model, need no tensors
_LABELS = 20_000


def head_info(kind: str, values: Mapping[str, Any], where: str) -> HeadInfo:
    """What a configuration says of a head: ``id2label`` or ``label2id``, or else the number of labels.

    Raises:
        UploadRefusedError: for labels that are none, or that are not as many as it says.
    """
    by_id, by_label = values.get("id2label"), values.get("label2id")
    if by_id:
        labels = {str(index): label for index, label in by_id.items()}
    else:
        labels = {str(index): label for label, index in (by_label or {}).items()}
    count = number(values, "num_labels")
    if not labels:
        return HeadInfo(kind, None, count)
    names = [labels.get(str(index)) for index in range(min(len(labels), _LABELS))]
    if len(names) != len(labels) or not all(isinstance(name, str) for name in names):
        raise UploadRefusedError(f"{where}: the labels of the head must be texts, numbered from 0: {_short(labels)}")
    if count is not None and count != len(names):
        raise UploadRefusedError(f"{where}: the head has num_labels {count}, and {len(names)} labels: write as many")
    return HeadInfo(kind, tuple(str(name) for name in names), len(names))


def head_needs(head: HeadInfo, tensors: Mapping[str, Shape], where: str) -> tuple[Need, ...]:
    """What the tensors of a head read and give.

    Raises:
        UploadRefusedError: if matrices and biases do not go together, or not with the number of labels.
    """
    if not tensors and head.type not in _BARE:
        raise UploadRefusedError(f"{where} holds no tensors of a head. Save it again.")
    needs = []
    for name, shape in tensors.items():
        module, _, leaf = name.rpartition(".")
        bias = tensors.get(f"{module}.bias")
        if leaf == "weight" and bias is not None and len(shape) >= 1 and bias != shape[:1]:
            raise UploadRefusedError(f"{where}: {name!r} is {list(shape)}, and its bias {list(bias)}. Save it again.")
        if leaf == "weight" and len(shape) == 2:
            needs.append(Need(None, f"head.{module}", shape[1], shape[0]))
    counted = head.type.endswith(_CLASSIFIERS) and head.num_labels is not None
    if counted and not any(need.gives == head.num_labels for need in needs):
        raise UploadRefusedError(
            f"{where}: the head has {head.num_labels} labels, and none of its matrices gives as many. Save it again."
        )
    return tuple(needs)


def _short(labels: Mapping[str, Any]) -> str:
    return repr(dict(list(labels.items())[:5]))[:200]
