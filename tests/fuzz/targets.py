"""What is fuzzed by atheris: everything that reads bytes of strangers. ``python tests/fuzz/targets.py NAME [options]``.

The options are those of libFuzzer. A target ends in silence, or in the refusal of what it was given; anything else is
a finding. What is taken is compared with another reader of the same format.
"""

import json
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["adapterhub.hub"]):
    from adapterhub.errors import HubError, UploadRefusedError
    from adapterhub.hub.card import Card
    from adapterhub.hub.inspecting.adapter import inspect
    from adapterhub.hub.inspecting.configs import read_config
    from adapterhub.hub.inspecting.files import check_file
    from adapterhub.hub.inspecting.tensors import check_finite, read_header
    from adapterhub.hub.server.protocol import ndjson
    from adapterhub.hub.server.protocol.xet import format

from lz4.frame import compress
from safetensors import deserialize

NAMES = (
    "a.safetensors",
    "README.md",
    "adapter_config.json",
    "x.json",
    "tokenizer.json",
    "a.png",
    "a.jpg",
    "a.model",
    "x",
)


def header(data: bytes) -> None:
    """What is taken as safetensors the library of that name reads alike."""
    try:
        found = read_header(BytesIO(data), "here")
        check_finite(BytesIO(data), found)
    except UploadRefusedError:
        return
    theirs = {name: tuple(tensor["shape"]) for name, tensor in deserialize(data)}
    assert theirs == {name: tensor.shape for name, tensor in found.tensors.items()}


def card(data: bytes) -> None:
    """What is taken as a card is read back when it is written."""
    try:
        found = Card.parse(data)
    except UploadRefusedError:
        return
    assert Card.parse(found.render()) == found
    assert (found.title, found.summary, found.topics) is not None
    json.dumps(found.front_matter(), allow_nan=False)


def config(data: bytes) -> None:
    """What is taken as a configuration is what every reader of JSON reads."""
    try:
        found = read_config(data, "here")
    except UploadRefusedError:
        return
    assert found == json.loads(data)


def file(data: bytes) -> None:
    """Any file, by any name."""
    try:
        check_file(NAMES[data[0] % len(NAMES)] if data else "a", BytesIO(data[1:]))
    except UploadRefusedError:
        return


def adapter(data: bytes) -> None:
    """A configuration, NUL, and weights: what is taken can be described."""
    text, _, weights = data.partition(b"\0")
    names = ("adapter_model.safetensors", "adapter.safetensors", "adapter.01234567.safetensors")
    files = {"adapter_config.json": lambda: BytesIO(text)} | dict.fromkeys(names, lambda: BytesIO(weights))
    try:
        found = inspect(files, "base")
    except UploadRefusedError:
        return
    assert found is not None and found.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def xorb(data: bytes) -> None:
    """A xorb is no larger unpacked than it says, and its chunks lie in it one after another."""
    stream, place = BytesIO(data), 0
    try:
        for chunk in format.chunks(stream):
            assert chunk.start == place + 8 and chunk.start + chunk.packed <= len(data)
            place = chunk.start + chunk.packed
            unpacked = format.unpack(chunk, data[chunk.start : place])
            assert 0 < len(unpacked) == chunk.size <= format.MAX_CHUNK
    except UploadRefusedError:
        return


def shard(data: bytes) -> None:
    """A shard has no more segments than it has room for, each of which a xorb can hold."""
    stream, count = BytesIO(data), 0
    try:
        for one in format.files(stream):
            for segment in format.segments(stream, one):
                count += 1
                assert segment.first < segment.last <= format.MAX_CHUNKS
                assert len(bytes.fromhex(segment.xorb)) == 32
    except UploadRefusedError:
        pass
    assert count * 48 <= len(data)


def commit(data: bytes) -> None:
    """The lines of a commit are the same whether it comes in one piece or byte by byte."""
    assert _lines([data]) == _lines([data[place : place + 1] for place in range(len(data))])


def _lines(pieces: list[bytes]) -> list[tuple[str, str | None]] | None:
    """What a commit says, or None if it is refused."""
    try:
        found = ndjson.lines(iter(pieces), lambda parts: b"".join(parts).hex())
        return [(json.dumps([line.key, line.value]), line.taken) for line in found]
    except HubError:
        return None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "adapter": adapter,
    "card": card,
    "commit": commit,
    "config": config,
    "file": file,
    "header": header,
    "shard": shard,
    "xorb": xorb,
}


def _weights(shapes: dict[str, list[int]]) -> bytes:
    entries, place = {}, 0
    for name, shape in shapes.items():
        size = 4
        for one in shape:
            size *= one
        entries[name], place = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}, place + size
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(place)


def seeds(name: str) -> Iterator[bytes]:
    """Where to start from: files that are right."""
    lora = {"base_model.model.h.0.q.lora_A.weight": [2, 4], "base_model.model.h.0.q.lora_B.weight": [6, 2]}
    peft = {"peft_type": "LORA", "r": 2, "target_modules": ["q"], "base_model_name_or_path": "a/b", "rank_pattern": {}}
    at = "bert.encoder.layer.0.output.adapters.x"
    bottleneck = {f"{at}.adapter_down.0.weight": [2, 4], f"{at}.adapter_down.0.bias": [2]}
    bottleneck |= {f"{at}.adapter_up.weight": [4, 2], f"{at}.adapter_up.bias": [4]}
    theirs = {
        "config": {"reduction_factor": 2, "output_adapter": True},
        "model_type": "bert",
        "name": "x",
        "hidden_size": 4,
    }
    front = (
        "---\ntags: [a, 'adapterhub:b/c']\nlanguage: no\nmodel-index:\n- name: x\n  results:\n  - dataset: {type: d}\n"
    )
    front += "    metrics: [{type: f1, value: 0.5}]\n---\n# A\n\ntext\n"
    yield from {
        "header": (_weights(lora), _weights({}), _weights({"a": []})),
        "config": (json.dumps(peft).encode(), json.dumps(theirs).encode()),
        "card": (front.encode(), b"# A\n\ntext", b"---\na: |\n  b\n---\n"),
        "file": tuple(
            bytes([index]) + data for index, data in enumerate((_weights(lora), front.encode(), b"{}", b"{}"))
        ),
        "adapter": (
            json.dumps(peft).encode() + b"\0" + _weights(lora),
            json.dumps(theirs).encode() + b"\0" + _weights(bottleneck),
        ),
        "commit": (
            b'{"key": "header", "value": {"summary": "a"}}\n'
            b'{"key": "file", "value": {"content": "YWJj", "path": "a"}}\n',
            b'{"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": "0", "size": 1}}',
        ),
        "shard": (_shard(1), _shard(3)),
        "xorb": (_chunk(0, b"abc", 3), _chunk(1, compress(b"abc" * 9), 27) + _chunk(2, compress(b"abcd" * 9), 36)),
    }[name]


def _chunk(scheme: int, body: bytes, size: int) -> bytes:
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + body


def _shard(count: int) -> bytes:
    head = b"HFRepoMetaData\0".ljust(32, b"U") + struct.pack("<QQ", 2, 0)
    file = struct.pack("<32sIIQ", bytes(32), 3 << 30, count, 0)
    segment = struct.pack("<32sIIII", b"x" * 32, 0, 100, 0, 2)
    return head + file + segment * count + bytes(48) * (count + 1) + b"\xff" * 32 + bytes(16)


def main(name: str, options: list[str]) -> None:
    """Fuzz a target, from the seeds and what the folders among the options hold."""
    with tempfile.TemporaryDirectory() as folder:
        for index, data in enumerate(seeds(name)):
            (Path(folder) / str(index)).write_bytes(data)
        folders = [one for one in options if not one.startswith("-")]
        rest = [one for one in options if one.startswith("-")]
        atheris.Setup([sys.argv[0], *rest, *folders, folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
