"""Lines of commits: a whole parser is the oracle."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub.errors import HubError
from adapterhub.hub.server.protocol.ndjson import lines

VALUES = st.dictionaries(st.sampled_from(["path", "oid", "a"]), st.text(max_size=20) | st.integers(), max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.none() | st.binary(max_size=300)), max_size=5),
    st.integers(1, 200),
    st.booleans(),
    st.booleans(),
)
def test_however_it_is_cut_it_is_read_as_a_whole(
    content: list[tuple[dict[str, object], bytes | None]], size: int, first: bool, ended: bool
) -> None:
    body, expected = [], []
    for value, data in content:
        said = {} if data is None else {"content": base64.b64encode(data).decode()}
        body.append(json.dumps({"key": "file", "value": said | value if first else value | said}))
        expected.append((value, data))
    text = ("\n".join(body) + ("\n" if ended else "")).encode()
    pieces = iter([text[place : place + size] for place in range(0, len(text), size)])
    taken: list[bytes] = []

    def take(data: object) -> str:
        taken.append(b"".join(data))  # type: ignore[arg-type]
        return "taken"

    found = []
    for line in lines(pieces, take):
        value = {name: one for name, one in line.value.items() if name != "content"}
        found.append((value, taken.pop() if line.taken else None))
    assert found == expected


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_long_contents_are_never_held_as_a_whole(size: int) -> None:
    data = bytes(range(256)) * (1 << 14)
    text = json.dumps({"key": "file", "value": {"content": base64.b64encode(data).decode(), "path": "a"}}).encode()
    longest, taken = 0, bytearray()

    def take(pieces: object) -> str:
        nonlocal longest
        for piece in pieces:  # type: ignore[attr-defined]
            longest = max(longest, len(piece))
            taken.extend(piece)
        return ""

    pieces = iter([text[place : place + size] for place in range(0, len(text), size)])
    assert [line.value["path"] for line in lines(pieces, take)] == ["a"]
    assert taken == data and longest <= 1 << 18


def test_a_content_inside_of_a_text_is_none() -> None:
    text = json.dumps({"key": "header", "value": {"summary": '"content": "AAAA"'}}).encode()
    (line,) = lines(iter([text]), lambda pieces: pytest.fail("taken"))
    assert line.value["summary"] == '"content": "AAAA"' and line.taken is None


def test_a_content_without_an_end() -> None:
    with pytest.raises(HubError, match="has no end"):
        list(lines(iter([b'{"key": "file", "value": {"content": "AAAA']), lambda pieces: b"".join(pieces).hex()))
