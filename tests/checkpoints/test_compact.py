"""Tensors in fewer bits: how near they come back, how small they are, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adapterhub
import tiny
from adapterhub.checkpoints import ADAPTER_MANIFEST, Part, read, write
from adapterhub.checkpoints.compact import packed, unpacked
from adapterhub.errors import CheckpointError, ConfigError, CorruptCheckpointError

BLOCK, LARGEST = {"int8": 128, "int4": 32}, {"int8": 127, "int4": 7}


def bound(values: torch.Tensor, kind: str) -> torch.Tensor:
    """Half a step of the block of each value, and what rounding a scale to bfloat16 may add."""
    flat = values.flatten()
    steps = torch.cat([block.abs().amax().expand(len(block)) for block in flat.split(BLOCK[kind])]) / LARGEST[kind]
    return (steps / 2 * (1 + 2**-7)).view_as(values) + 1e-38


@given(
    st.sampled_from(["int8", "int4"]),
    st.lists(st.integers(1, 40), min_size=0, max_size=3),
    st.floats(1e-30, 1e30),
    st.integers(0, 2**31),
)
def test_values_come_back_within_half_a_step(kind: Any, shape: list[int], size: float, seed: int) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    stored = packed({"w": values}, kind)
    paired = kind == "int4" and len(shape) > 1 and shape[-1] % 2 == 0
    again = unpacked(stored, "this")["w"]
    assert stored["w"].dtype == (torch.uint8 if paired else torch.int8)
    assert again.shape == values.shape
    assert ((again - values).abs() <= bound(values, "int4" if paired else "int8")).all()


def test_what_is_stored_comes_back_to_the_bit() -> None:
    values = {"w": torch.randn(6, 10), "b": torch.zeros(4), "n": torch.arange(3)}
    for kind in ("float32", "int8", "int4"):
        once = unpacked(packed(values, kind), "this")
        assert torch.equal(once["b"], values["b"])
        assert torch.equal(once["n"], values["n"])
        assert once["n"].dtype == torch.int64
        twice = unpacked(packed(once, kind), "this")
        torch.testing.assert_close(twice["w"], once["w"], rtol=2**-6, atol=0)


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.5), ("int8", 0.25), ("int4", 0.125)])
def test_an_adapter_takes_its_share_of_the_bytes(tmp_path: Path, dtype: Any, share: float) -> None:
    model = adapterhub.init(tiny.model("bert", hidden_size=256))
    model.add_adapter("a", config="seq_bn[reduction_factor=2]")
    model.save_adapter(tmp_path / "whole", "a")
    model.save_adapter(tmp_path / "less", "a", dtype=dtype)
    sizes = [
        next(folder.glob("adapter.*.safetensors")).stat().st_size for folder in (tmp_path / "whole", tmp_path / "less")
    ]
    assert sizes[1] / sizes[0] == pytest.approx(share, rel=0.15)
    assert json.loads((tmp_path / "less" / ADAPTER_MANIFEST).read_text())["format_version"] == 1 + (dtype != "bfloat16")
    model.load_adapter(tmp_path / "less", load_as="b")
    ids = torch.arange(12).view(2, 6)
    outputs = {}
    for name in ("a", "b"):
        model.set_active_adapters(name)
        outputs[name] = model.eval()(ids).last_hidden_state
    assert not torch.equal(outputs["a"], outputs["b"])
    torch.testing.assert_close(outputs["b"], outputs["a"], rtol=0, atol={"bfloat16": 0.01}.get(dtype, 0.05))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w.scales": torch.ones(3)}, "3.* scales"),
        ({"w.scales": torch.ones(1, dtype=torch.int64)}, "scales"),
        ({"w": torch.ones(4, 8)}, "has scales"),
        ({"w": torch.tensor(7, dtype=torch.uint8)}, "no dimension"),
    ],
)
def test_scales_that_do_not_go_with_their_values(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(CorruptCheckpointError, match=message):
        unpacked(packed({"w": torch.randn(4, 8)}, "int8") | change, "this")


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a")
    with pytest.raises(ConfigError, match="int7"):
        model.save_adapter(tmp_path / "a", "a", dtype="int7")
    with pytest.raises(CheckpointError, match="no place for dtype"):
        model.save_adapter(tmp_path / "a", "a", format="peft", dtype="int8")
    with pytest.raises(CheckpointError, match="not finite"):
        write(tmp_path / "a", ADAPTER_MANIFEST, {}, {"adapter": Part({}, {"w": torch.tensor([torch.nan])})}, "int8")
    assert not (tmp_path / "a").exists()


def test_parts_of_one_folder_are_read_as_floats(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 7), "ids": torch.arange(2)}
    write(tmp_path, ADAPTER_MANIFEST, {}, {"adapter": Part({}, tensors)}, "int4")
    found = read(tmp_path, ADAPTER_MANIFEST).tensors("adapter")
    assert {name: tensor.dtype for name, tensor in found.items()} == {"w": torch.float32, "ids": torch.int64}
