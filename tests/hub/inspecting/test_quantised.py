"""Adapters stored in fewer bits are told to be what they are, or refused."""

import io
import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from safetensors.torch import load, save

import adapterhub
import tiny
from adapterhub.checkpoints.compact import packed, unpacked
from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.adapter import inspect
from adapterhub.hub.inspecting.info import AdapterInfo
from adapterhub.hub.inspecting.quantised import restored
from adapterhub.hub.inspecting.tensors import read_header
from hub.inspecting.test_adapter import MANIFEST, rewritten
from uploads import Files, changed, files


def told(given: Files) -> tuple[object, ...]:
    info: AdapterInfo = inspect(given)
    return info.needs, info.parameters, info.hidden_size, info.config_hash, info.head


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    folder: Path = tmp_path_factory.mktemp("saved")
    model = adapterhub.init(tiny.model("roberta"))
    for name in ("double_seq_bn[reduction_factor=2]", "lora", "compacter[reduction_factor=4]", "mam"):
        model.add_adapter(name.partition("[")[0], config=name)
        for dtype in ("float32", "bfloat16", "int8", "int4"):
            model.save_adapter(folder / name.partition("[")[0] / dtype, name.partition("[")[0], dtype=dtype)
    return {f"{path.parent.name}/{path.name}": files(path) for path in folder.glob("*/*")}


def test_they_are_told_as_whole_ones_are(saved: dict[str, Files]) -> None:
    assert len(saved) == 16
    for name, given in saved.items():
        assert told(given) == told(saved[f"{name.partition('/')[0]}/float32"]), name


def test_scales_that_do_not_fit_are_refused(saved: dict[str, Files]) -> None:
    given = saved["double_seq_bn/int8"]
    weights = next(name for name in given if name.endswith(".safetensors"))
    tensors = load(given[weights]().read())
    scales = next(name for name in tensors if name.endswith("down_proj.weight.scales"))
    said = json.loads(given[MANIFEST]().read())["adapter"]["weights"]

    def manifest(content: dict) -> None:  # as it was, of the new file
        content["adapter"]["weights"] |= {key: said[key] for key in ("tensors", "parameters", "dtype")}

    assert told(changed(rewritten(given, tensors), MANIFEST, manifest)) == told(given)
    for wrong in ({scales: tensors[scales][:, :-1].contiguous()}, {scales: tensors[scales].to(torch.int64)}):
        with pytest.raises(UploadRefusedError, match="scales"):
            inspect(changed(rewritten(given, tensors | wrong), MANIFEST, manifest))


@drawn(st.sampled_from(("int8", "int4")), st.lists(st.integers(1, 40), max_size=3))
def test_shapes_are_those_that_the_library_reads(kind: Literal["int8", "int4"], shape: list[int]) -> None:
    stored = packed({"w": torch.ones(shape)}, kind)
    header = read_header(io.BytesIO(save(stored)), "this").tensors
    assert restored(header, "this") == {"w": tuple(unpacked(stored, "this")["w"].shape)} == {"w": tuple(shape)}
