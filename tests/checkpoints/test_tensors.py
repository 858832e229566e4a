import json
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from adapterhub.checkpoints import load_into, match_tensors
from adapterhub.checkpoints.tensors import decode, encode
from adapterhub.errors import CheckpointError, CorruptCheckpointError, TensorMismatchError

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
PARTS = st.sampled_from(["layers", "0", "1", "2", "3", "10", "01", "-1", "a b", "", "weight", "ü", "x[0]", "decoder"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(".".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=generator).to(dtype)


def header(data: bytes) -> dict[str, dict]:
    """What a safetensors file says of its tensors: eight bytes of length, then JSON."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert (
            found[name].contiguous().view(-1).view(torch.uint8).equal(tensor.contiguous().view(-1).view(torch.uint8))
        ), name


@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(DTYPES)), max_size=12), st.randoms())
def test_round_trip_to_the_bit_and_the_same_bytes_in_any_order(described, order) -> None:
    tensors = {name: random(*form, seed=seed) for seed, (name, form) in enumerate(described.items())}
    data = encode(tensors, "it")
    assert_same(decode(data, "it"), tensors)
    shuffled = list(tensors.items())
    order.shuffle(shuffled)
    assert encode(dict(shuffled), "it") == data


def test_signed_zeros_and_subnormal_numbers_are_kept() -> None:
    tensors = {"a": torch.tensor([-0.0, 0.0, 1e-45, -1e-40]), "b": torch.tensor(-0.0, dtype=torch.bfloat16)}
    assert_same(decode(encode(tensors, "it"), "it"), tensors)


def test_tensors_of_successive_layers_are_one_in_the_file() -> None:
    tensors = {f"layers.{n}.up.weight": random((2, 3), torch.float32, n) for n in (0, 1, 2, 4, 5, 9)}
    tensors |= {f"layers.{n}.up.bias": random((n,), torch.float32, n) for n in (1, 2)}  # of unlike shapes
    tensors |= {"layers.3.up.weight": random((2, 3), torch.float16), "01.a": torch.ones(1), "02.a": torch.ones(1)}
    tensors |= {"experts.0.1.a": torch.ones(1), "experts.1.1.a": torch.zeros(1), "scale": torch.tensor(1.0)}
    data = encode(tensors, "it")
    assert {name: entry["shape"] for name, entry in header(data).items()} == {
        "layers.[0:3].up.weight": [3, 2, 3],
        "layers.3.up.weight": [2, 3],
        "layers.[4:6].up.weight": [2, 2, 3],
        "layers.9.up.weight": [2, 3],
        "layers.1.up.bias": [1],
        "layers.2.up.bias": [2],
        "01.a": [1],
        "02.a": [1],
        "experts.[0:2].1.a": [2, 1],
        "scale": [],
    }
    assert_same(decode(data, "it"), tensors)


def test_views_and_gradients_are_saved_as_plain_values() -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    tensors = {"rows": whole[:2], "last": whole[2:].expand(2, 4), "turned": torch.arange(6.0).reshape(2, 3).T}
    found = decode(encode(tensors, "it"), "it")
    assert_same(found, {name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    assert_same(decode(encode(found, "it"), "it"), found)  # what came out of a stack can go in again


@pytest.mark.parametrize(
    ("message", "tensors"),
    [
        ("tensors (a and b|b and a) share memory", lambda: dict.fromkeys(("a", "b"), torch.ones(3))),
        ("share memory", lambda: (lambda x: {"a": x, "b": x[1:2]})(torch.ones(3))),
        ("tensors a and c share memory", lambda: (lambda x: {"a": x, "b": torch.ones(1), "c": x.T})(torch.ones(2, 3))),
        ("tensor b holds values that.*diverged", lambda: {"a": torch.ones(1), "b": torch.full((2,), torch.nan)}),
        ("tensor a holds values that are not finite", lambda: {"a": torch.tensor(torch.inf, dtype=torch.bfloat16)}),
        ("tensor a has no values.*meta", lambda: {"a": torch.ones(1, device="meta")}),
        ("tensor a has no values.*sparse", lambda: {"a": torch.eye(2).to_sparse()}),
        ("tensor a has no values.*complex", lambda: {"a": torch.ones(1, dtype=torch.complex64)}),
        ("tensor a has no values.*float8", lambda: {"a": torch.ones(1).to(torch.float8_e4m3fn)}),
        (r"cannot be named 'layers.\[0:2\].a'", lambda: {"layers.[0:2].a": torch.ones(2)}),
        ("cannot be named '__metadata__'", lambda: {"__metadata__": torch.ones(2)}),
        ("cannot be saved as safetensors", lambda: {"\ud800": torch.ones(2)}),
    ],
)  # fmt: skip
def test_what_cannot_be_saved(message: str, tensors: Callable[[], dict[str, Tensor]]) -> None:
    with pytest.raises(CheckpointError, match=f"the adapter.*{message}"):
        encode(tensors(), "the adapter")


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("not a whole safetensors file", b""),
        ("not a whole safetensors file", struct.pack("<Q", 1 << 60) + b"{}"),
        ("not a whole safetensors file", b"\x80\x04pickle, say"),
        ("not a whole safetensors file", encode({"a": torch.ones(9)}, "it")[:-1]),
        ("not a whole safetensors file", encode({"a": torch.ones(9)}, "it") + b"\0"),
        (r"tensor a\.\[0:3\] is of shape \[2\]", save_safetensors({"a.[0:3]": torch.ones(2)})),
        (r"tensor a\.\[0:1\] is of shape \[\]", save_safetensors({"a.[0:1]": torch.tensor(1.0)})),
        (r"tensor a\.\[2:1\] is of shape \[1\]", save_safetensors({"a.[2:1]": torch.ones(1)})),
        (r"tensor a\.\[1:1\] is of shape \[0\]", save_safetensors({"a.[1:1]": torch.ones(0)})),
        ("tensor a.1 twice", save_safetensors({"a.[0:2]": torch.ones(2), "a.1": torch.tensor(1.0)})),
        ("tensor a.1 holds values that are not finite", save_safetensors({"a.[0:2]": torch.tensor([0.0, torch.inf])})),
        ("tensor a holds values that are not finite", save_safetensors({"a": torch.tensor(torch.nan).half()})),
        ("tensor a is of the type torch.complex64", save_safetensors({"a": torch.ones(1, dtype=torch.complex64)})),
        ("tensor a is of the type torch.float8", save_safetensors({"a": torch.ones(1).to(torch.float8_e5m2)})),
    ],
)
def test_what_cannot_be_read(message: str, data: bytes) -> None:
    with pytest.raises(CorruptCheckpointError, match=f"file x.*{message}"):
        decode(data, "file x")


@given(st.binary(max_size=200))
def test_no_bytes_end_in_another_error(data: bytes) -> None:
    for guess in (data, struct.pack("<Q", len(data)) + data):
        with suppress(CorruptCheckpointError):
            decode(guess, "it")


def test_match_lists_what_is_wrong_ten_by_ten() -> None:
    expected = {f"m{n}": torch.ones(1) for n in range(12)} | {"same": torch.ones(2), "other": torch.ones(2, 3)}
    found = {"same": torch.zeros(2).half(), "other": torch.ones(3, 2), "more": torch.ones(1)}
    with pytest.raises(TensorMismatchError) as caught:
        match_tensors(expected, found, "adapter 'x'")
    text = str(caught.value)
    assert "adapter 'x' does not fit" in text
    assert "12 missing from the checkpoint: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more" in text
    assert "1 left over in the checkpoint: more" in text and "m10" not in text
    assert "1 of another shape: other ([3, 2] in the checkpoint, [2, 3] here)" in text
    with pytest.raises(TensorMismatchError, match=r"a \(\[1\] int64 in the checkpoint, \[1\] here\)"):
        match_tensors({"a": torch.ones(1)}, {"a": torch.ones(1, dtype=torch.long)}, "it")
    match_tensors(expected, dict(expected), "it")


class Filled(nn.Module):
    """A layer with a buffer, to load into."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2, dtype=dtype)
        self.register_buffer("count", torch.zeros(2, dtype=torch.long))


def test_load_into_copies_in_place_in_the_type_of_the_module() -> None:
    module = Filled(torch.bfloat16)
    before = dict(module.named_parameters())
    tensors = {"inner.weight": torch.randn(2, 3), "inner.bias": torch.randn(2), "count": torch.tensor([3, 4])}
    load_into(module, tensors, "it")
    assert all(module.get_parameter(name) is parameter for name, parameter in before.items())
    assert torch.equal(module.inner.weight, tensors["inner.weight"].bfloat16())
    assert module.inner.weight.requires_grad and module.inner.weight.grad_fn is None
    assert module.count.tolist() == [3, 4]
    tensors["inner.bias"].zero_()  # a copy, which does not follow
    assert module.inner.bias.any()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("count"),
        lambda t: t.update(more=torch.ones(1)),
        lambda t: t.update(count=torch.ones(3, dtype=torch.long)),
        lambda t: t.update(count=torch.ones(2)),
    ],
)
def test_load_into_changes_nothing_unless_all_fits(change: Callable[[dict[str, Tensor]], object]) -> None:
    module = Filled()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {"inner.weight": torch.ones(2, 3), "inner.bias": torch.ones(2), "count": torch.ones(2, dtype=torch.long)}
    change(tensors)
    with pytest.raises(TensorMismatchError):
        load_into(module, tensors, "it")
    assert_same(module.state_dict(), before)


def test_load_into_refuses_a_module_without_memory() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    with pytest.raises(TensorMismatchError, match="tensor weight of this model has no memory"):
        load_into(module, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "it")
