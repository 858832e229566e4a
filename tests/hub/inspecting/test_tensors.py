"""safetensors files: what is taken is what the safetensors library reads, and everything else is refused."""

import io
import json
import re
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.tensors import (
    HEADER,
    SIZES,
    TensorInfo,
    check_finite,
    read_header,
)
from uploads import entry, header

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}
FOUR = b"\0" * 16
ONE = {"a": entry("F32", [4], 0, 16)}

WRONG = {
    "empty": (b"", "truncated"),
    "no header": (b"\x10\0\0\0\0\0\0\0", "ends within its header"),
    "header too large": ((HEADER + 1).to_bytes(8, "little") + b" " * 20, "4,194,304 is the most"),
    "length of 2^64": (b"\xff" * 16, "is the most"),
    "no object": (header("[]"), "no safetensors file"),
    "spaces first": (header(" {}"), "no safetensors file"),
    "not JSON": (header("{"), "not JSON"),
    "not UTF-8": (header(b'{"\xff": 1}'), "not JSON"),
    "UTF-16": (header('{"a": 1}'.encode("utf-16-le")), "not JSON"),
    "twice": (header(f'{{"a": {json.dumps(ONE["a"])}, "a": {json.dumps(ONE["a"])}}}', FOUR), "stands twice"),
    "twice inside": (
        header('{"a": {"dtype": "I8", "dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', FOUR),
        "stands twice",
    ),
    "NaN": (header('{"a": NaN}'), "no number of JSON"),
    "too deep": (header('{"a": [[[[1]]]]}'), "levels deep"),
    "far too deep": (header('{"a": ' + "[" * 90_000 + "]" * 90_000 + "}"), "is not JSON"),
    "too many values": (header('{"a": [' + "1," * 300_000 + "1]}"), "more than 200,000 values"),
    "no entry": (header({"a": 1}), "must have a dtype"),
    "more in an entry": (header({"a": ONE["a"] | {"x": 1}}, FOUR), "nothing else"),
    "unknown type": (header({"a": entry("F4", [4], 0, 2)}, b"\0\0"), "none of F64"),
    "type of a list": (header({"a": entry([], [4], 0, 2)}, b"\0\0"), "none of F64"),
    "negative": (header({"a": entry("F32", [-4, -1], 0, 16)}, FOUR), "whole numbers from 0"),
    "bool as a size": (header({"a": entry("F32", [True, 4], 0, 16)}, FOUR), "whole numbers from 0"),
    "float as a size": (header({"a": entry("F32", [4.0], 0, 16)}, FOUR), "whole numbers from 0"),
    "six dimensions": (header({"a": entry("F32", [1, 1, 1, 1, 1, 4], 0, 16)}, FOUR), "at most 5"),
    "three offsets": (header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}}), "two whole numbers"),
    "wrong size": (header({"a": entry("F32", [5], 0, 16)}, FOUR), "takes 20 bytes by type and shape"),
    "overflow": (header({"a": entry("F32", [2**62, 2**62, 8], 0, 16)}, FOUR), "by type and shape"),
    "more than 64 bits": (header('{"a": 9223372036854775808}'), "64 bits"),
    "gap at the start": (header({"a": entry("F32", [4], 8, 24)}, b"\0" * 24), "belong to no tensor"),
    "gap": (
        header({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, b"\0" * 12),
        "'b': bytes before it belong to no tensor",
    ),
    "overlap": (
        header({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, b"\0" * 12),
        "'b': it lies over another tensor",
    ),
    "the same bytes": (header({"a": ONE["a"], "b": ONE["a"]}, FOUR), "lies over another"),
    "truncated": (header(ONE, FOUR[:15]), "is truncated: "),
    "bytes after": (header(ONE, FOUR + b"PK"), "goes on after the last tensor"),
    "only metadata, and bytes": (header({"__metadata__": {}}, b"\0"), "goes on after"),
    "metadata of numbers": (header({"__metadata__": {"a": 1}}), "object of texts"),
    "metadata as a list": (header({"__metadata__": []}), "object of texts"),
    "large metadata": (header({"__metadata__": {"a": "x" * 65_536}}), "65,537 bytes"),
    "long name": (header({"a" * 1025: ONE["a"]}, FOUR), "longer than 1024"),
    "no name": (header({"": ONE["a"]}, FOUR), "is empty"),
    "odd name": (header({"a\nb": ONE["a"]}, FOUR), "not printable"),
    "half a character": (header('{"\\ud800": 1}'), "character that is none"),
}


def read(data: bytes):
    return read_header(io.BytesIO(data), "w.safetensors")


def test_reads_what_the_library_writes() -> None:
    tensors = {f"t.{name}": torch.zeros(2, 3, dtype=dtype) for name, dtype in TYPES.items()}
    data = save(tensors | {"scalar": torch.tensor(1.5)}, {"format": "pt"})
    found = read(data)
    assert found.metadata == {"format": "pt"} and found.size == len(data)
    assert {name: info.dtype for name, info in found.tensors.items() if name != "scalar"} == {
        f"t.{name}": name for name in TYPES
    }
    assert TYPES.keys() == SIZES.keys()
    info = found.tensors["scalar"]
    assert info.shape == () and info.parameters == 1
    assert np.frombuffer(data[info.start : info.end], "<f4")[0] == 1.5


@pytest.mark.parametrize("case", WRONG)
def test_refuses(case: str) -> None:
    data, why = WRONG[case]
    with pytest.raises(UploadRefusedError, match=re.escape(why)) as caught:
        read(data)
    assert "w.safetensors" in str(caught.value)


def test_too_many_tensors() -> None:
    data = header({str(index): entry("U8", [0], 0, 0) for index in range(20_001)})
    with pytest.raises(UploadRefusedError, match="20,001 tensors"):
        read(data)
    assert len(read(header({str(index): entry("U8", [0], 0, 0) for index in range(20_000)})).tensors) == 20_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 40) | st.sampled_from(["F32", "I8", "F4", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), inner)
    ),
    max_leaves=6,
)
ENTRIES = st.builds(
    entry,
    st.sampled_from([*SIZES, "F4", "f32"]),
    st.lists(st.integers(-1, 4), max_size=6),
    st.integers(-1, 24),
    st.integers(0, 40),
)
CONTENTS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "__metadata__"]), st.one_of(ENTRIES, ENTRIES, VALUES), max_size=4
)


SHAPES = st.lists(st.integers(0, 4), max_size=6)
TENSORS = st.dictionaries(st.text(max_size=3), st.tuples(st.sampled_from(list(SIZES)), SHAPES), max_size=4)


def read_alike(content: dict, size: int) -> None:
    """A file that is taken is one that the library reads, and finds the same in."""
    data = header(content, bytes(size))
    try:
        found = read(data)
    except UploadRefusedError:
        return
    assert {name: info.shape for name, info in found.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in load(data).items()
    }


@settings(max_examples=300, deadline=None)
@given(CONTENTS, st.integers(0, 48))
def test_what_is_taken_the_library_reads_alike(content: dict, size: int) -> None:
    read_alike(content, size)


@settings(max_examples=300, deadline=None)
@given(TENSORS, st.integers(-1, 1))
def test_whole_files_are_read_alike(tensors: dict, odd: int) -> None:
    content, place = {}, 0
    for name, (dtype, shape) in tensors.items():
        length = int(np.prod(shape, dtype=int)) * SIZES[dtype]
        content[name], place = entry(dtype, shape, place, place + length), place + length
    read_alike(content, max(0, place + odd))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_the_library_refuses_is_refused(data) -> None:
    whole = save({"a": torch.zeros(3), "b": torch.zeros(2, 2, dtype=torch.int8)}, {"format": "pt"})
    place = data.draw(st.integers(0, len(whole) - 1))
    torn = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    try:
        load(torn)
    except (SafetensorError, UnicodeDecodeError, KeyError):
        with pytest.raises(UploadRefusedError):
            read(torn)


@pytest.mark.parametrize("name", [name for name, dtype in TYPES.items() if dtype.is_floating_point])
def test_finite_is_what_torch_says(name: str) -> None:
    """Every bit pattern of eight and sixteen bits, and many of more."""
    size = SIZES[name]
    rng = np.random.default_rng(0)
    patterns = np.arange(256**size, dtype=f"<u{size}") if size < 3 else rng.integers(0, 256**size, 500, f"<u{size}")
    edges = {"F32": [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF], "F64": [0x7FF0 << 48, 0xFFF8 << 48, 0x7FEF << 48]}
    patterns = np.concatenate([patterns, np.array(edges.get(name, []), f"<u{size}")])
    finite = torch.frombuffer(bytearray(patterns.tobytes()), dtype=TYPES[name]).to(torch.float64).isfinite().numpy()
    assert not finite.all()
    data = patterns[finite].tobytes()
    sample = patterns[~finite][rng.integers(0, (~finite).sum(), 20)]
    file = io.BytesIO(header({"a": entry(name, [len(data) // size], 0, len(data))}, data))
    check_finite(file, read_header(file, "w"))
    for bad in sample:
        mixed = data[: size * 7] + bad.tobytes() + data[size * 8 :]
        file = io.BytesIO(
            header({"ok": entry("U8", [0], 0, 0), "a": entry(name, [len(data) // size], 0, len(data))}, mixed)
        )
        with pytest.raises(UploadRefusedError, match="tensor 'a' holds values that are not finite"):
            check_finite(file, read_header(file, "w"))


def test_whole_numbers_are_finite() -> None:
    data = b"\xff" * 16
    for name in ("I64", "U32", "I16", "U8", "BOOL"):
        file = io.BytesIO(header({"a": entry(name, [16 // SIZES[name]], 0, 16)}, data))
        check_finite(file, read_header(file, "w"))


class Counted(io.BytesIO):
    """A file that gives a few bytes at a time, and remembers the most that were asked for."""

    most = 0

    def read(self, size: int = -1, /) -> bytes:
        self.most = max(self.most, len(self.getbuffer()) if size < 0 else size)
        return super().read(min(size, 1_000_003) if size >= 0 else size)


def test_values_are_read_in_pieces() -> None:
    values = np.zeros(3_000_000, np.float32)
    for place, fine in ((None, True), (0, False), (2_999_999, False), (1_048_576, False)):
        values[:] = 0
        if place is not None:
            values[place] = np.inf
        file = Counted(header({"a": entry("F32", [3_000_000], 0, 12_000_000)}, values.tobytes()))
        found = read_header(file, "w")
        if fine:
            check_finite(file, found)
        else:
            with pytest.raises(UploadRefusedError, match="'a'"):
                check_finite(file, found)
        assert file.most <= 4 * 1024 * 1024


@pytest.mark.parametrize(
    "text", ['{"a": [' + "[]," * 1_390_000 + "[]]}", '{"' + "a" * 4_000_000 + '": 1}', "{" * 4_000_000]
)
def test_large_headers_cost_little(text: str) -> None:
    data = header(text)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(UploadRefusedError):
        read(data)
    assert time.perf_counter() - start < 3
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    tracemalloc.stop()


def test_info_counts() -> None:
    assert TensorInfo("F32", (2, 3), 0, 24).parameters == 6
    assert TensorInfo("F32", (), 0, 4).parameters == 1
