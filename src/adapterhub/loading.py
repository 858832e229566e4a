"""An adapter from a folder or the Hugging Face Hub, with the base model that it names: one call, no flags."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedModel

from adapterhub.auto import AutoAdapterModel, init, model_class
from adapterhub.checkpoints.described import Description, describe
from adapterhub.checkpoints.peft import read_peft
from adapterhub.errors import BaseModelMismatchError
from adapterhub.hub.client.resolving import Wanted
from adapterhub.saving.shared import local_folder
from adapterhub.training.backbones import loading, resolve_backbone


def load_adapter(
    name_or_path: str | PathLike[str],
    *,
    model: str | Path | None = None,
    with_head: bool = True,
    allow_pickle: bool = False,
    allow_other_base: bool = False,
    version: str | None = None,
    hub: str | None = None,
    where: Mapping[str, Any] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """A model with an adapter active: the base model that a checkpoint names, in the class that it was made from.

    Args:
        name_or_path: a folder of this library, of ``adapters`` or of PEFT, a whole setup among them; or a name on a
            hub (``"sentiment/sst-2@ukp"``, ``"me/roberta-sst2"``), the Hugging Face Hub as the last one that is asked.
        model: another base model than the one that it names: a name, a folder, or ``"minilm"``.
        with_head: load the head that goes with it, too.
        allow_pickle: read the tensors in a pickle, and nothing else in it, where there are only pickles.
        allow_other_base: load it into a base model that it was not trained for, as long as the shapes fit.
        version: a tag, a branch or a commit, on a hub.
        hub: the address of a hub, if no other shall be asked.
        where: ``revision``, ``token``, ``cache_dir`` and other arguments of ``snapshot_download``, for the
            Hugging Face Hub.
        **options: for ``from_pretrained`` of the base model, ``device_map`` say.

    Raises:
        CheckpointNotFoundError: if there is no such folder or repository, or no adapter in it.
        BaseModelMismatchError: if it names no base model, or was made for another than ``model``.
        BackboneError: if the base model cannot be loaded.
        CheckpointError: as ``load_adapter`` of a model.
    """
    wanted = Wanted(None if model is None else str(model), version=version)
    said = describe(local_folder(name_or_path, wanted, hub=hub, allow_pickle=allow_pickle, where=where))
    base = model or said.base
    if not base:
        raise BaseModelMismatchError(
            f"{said.folder} does not say for which base model it was made. Give its name or its folder: "
            "load_adapter(..., model=...)."
        )
    with loading(base):
        made = _built(said, resolve_backbone(base), with_head, allow_pickle, options)
    if said.is_setup:
        made.load_adapter_setup(said.folder, set_active=True, allow_pickle=allow_pickle)
        return made
    made.load_adapter(
        said.folder,
        with_head=with_head,
        set_active=True,
        allow_pickle=allow_pickle,
        allow_other_base=allow_other_base,
    )
    return made


def _built(said: Description, base: str, with_head: bool, allow_pickle: bool, options: Mapping[str, Any]) -> Any:
    """The base model, with no head unless one is part of the class that the adapter was made from."""
    name = said.model_class or ""
    flexible = name.endswith(("AdapterModel", "ModelWithHeads")) or not hasattr(transformers, name)
    if flexible or not with_head:
        return AutoAdapterModel.from_pretrained(base, **options)
    labels = said.id2label
    if said.format == "peft" and (count := _labels_of_peft(said.folder, allow_pickle)) is not None:
        config = AutoConfig.from_pretrained(base)
        if config.num_labels != count:
            labels = {index: f"LABEL_{index}" for index in range(count)}
    given = {} if labels is None else {"id2label": dict(labels), "label2id": {one: i for i, one in labels.items()}}
    kind: Any = model_class(name) or getattr(transformers, name)
    return init(kind.from_pretrained(base, **given, **options))


def _labels_of_peft(folder: Path, allow_pickle: bool) -> int | None:
    """How many classes the head has that PEFT trained beside an adapter: what its last matrix gives."""
    found = read_peft(folder, allow_pickle)
    sizes = [len(tensor) for tensor in found.others.values() if tensor.dim() == 2] if found is not None else []
    return min(sizes, default=None)
