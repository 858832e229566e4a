"""Every answer equals that of a model that holds one adapter, for one text alone."""

import asyncio
import random
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer  # noqa: F401 - transformers has to know it before it reads one

from adapterhub import AdapterSetup, Average, Stack
from adapterhub.serving import AsyncClient, Client
from serving.conftest import Place, Served

TEXTS = [
    "the film was very good",
    "it is bad",
    "i was not very sad but the soup is awful and the hotel was poor",
    "great",
    "the book is dull and the film was fine but the hotel and the soup was lovely and nice",
]
QUESTION = "is the film good"
MASKED = "the [MASK] was very [MASK]"
CLOSE = {"rel": 1e-4, "abs": 1e-5}


@torch.no_grad()
def alone(place: Place, setup: Any, *texts: str, head: str | None = None) -> Any:
    """What the model gives for one text, with one setup, and the tokens."""
    tokenizer = AutoTokenizer.from_pretrained(place.base)
    encoded = tokenizer(*texts, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with AdapterSetup(setup, head_setup=head):
        return place.model(**encoded), offsets, encoded


def expected(place: Place, name: str, text: str) -> dict[str, Any]:
    """The answer of an adapter, worked out from the logits by hand."""
    setup, head = (Stack("german", "sentiment"), "sentiment") if name == "stack" else (name, name)
    if name == "average":
        setup, head = Average("sentiment", "topics", weights=[0.3, 0.7]), "topics"
    if name == "answers":
        return _span(place, text)
    output, offsets, encoded = alone(place, setup, text, head=head)
    logits = output["logits"][0] if "logits" in output else None
    match head:
        case "sentiment":
            scores = logits.softmax(-1).tolist()
            return {"label": ["bad", "good"][scores[1] > scores[0]], "score": pytest.approx(max(scores), **CLOSE)}
        case "topics":
            scores = sorted(logits.sigmoid().tolist(), reverse=True)
            return {"scores": pytest.approx(scores, **CLOSE)}
        case "stars":
            return {"value": pytest.approx(logits.item(), **CLOSE)}
        case "names":
            return {"spans": _tags(logits, offsets)}
        case "vectors":
            return {"embedding": pytest.approx(output["embeddings"][0].tolist(), **CLOSE)}
    gaps = (encoded["input_ids"][0] == 4).nonzero().flatten()
    return {"gaps": [pytest.approx(logits[gap].softmax(-1).topk(5).values.tolist(), **CLOSE) for gap in gaps]}


def _span(place: Place, text: str) -> dict[str, Any]:
    output, offsets, encoded = alone(place, "answers", QUESTION, text)
    inside = (encoded["token_type_ids"][0] == 1).nonzero().flatten().tolist()[:-1]
    start, end = (output[f"{one}_logits"][0][[0, *inside]].softmax(-1)[1:] for one in ("start", "end"))
    pairs = {(i, j): (start[i] * end[j]).item() for i in range(len(inside)) for j in range(i, len(inside))}
    i, j = max(pairs, key=pairs.__getitem__)
    begin, stop = offsets[inside[i]][0], offsets[inside[j]][1]
    return {"span": (text[begin:stop], begin, stop, pytest.approx(pairs[i, j], **CLOSE))}


def _tags(logits: torch.Tensor, offsets: list[list[int]]) -> list[tuple[int, int]]:
    """Where spans are, of labels ``O``, ``B-X`` and ``I-X``; each word is one token here."""
    tags = logits.argmax(-1).tolist()[1:-1]
    spans: list[list[int]] = []
    for place, tag in enumerate(tags):
        start, end = offsets[place + 1]
        if tag == 2 and place and tags[place - 1] != 0:
            spans[-1][1] = end
        elif tag:
            spans.append([start, end])
    return [(start, end) for start, end in spans]


def said(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer in the form of ``expected``."""
    match name:
        case "sentiment" | "stack":
            return {"label": answer["label"], "score": answer["score"]}
        case "topics" | "average":
            return {"scores": [one["score"] for one in answer["scores"]]}
        case "stars":
            return {"value": answer["value"]}
        case "names":
            return {"spans": [(one["start"], one["end"]) for one in answer["spans"]]}
        case "vectors":
            return {"embedding": answer["embedding"]}
        case "answers":
            best = answer["spans"][0]
            return {"span": (best["text"], best["start"], best["end"], best["score"])}
    return {"gaps": [[one["score"] for one in gap] for gap in answer["gaps"]]}


SETUPS: dict[str, Any] = {
    "stack": {"stack": ["german", "sentiment"]},
    "average": {"average": ["sentiment", "topics"], "weights": [0.3, 0.7]},
}
NAMES = ["sentiment", "topics", "stars", "names", "answers", "vectors", "words", "stack", "average"]


def given(name: str, text: str) -> Any:
    return {"question": QUESTION, "context": text} if name == "answers" else MASKED if name == "words" else text


def test_mixed_requests_are_answered_as_each_is_alone(place: Place, served: Served) -> None:
    asked = [(name, text) for name in NAMES for text in TEXTS] * 2
    random.Random(0).shuffle(asked)

    async def ask_all() -> list[Any]:
        async with AsyncClient(served.url) as client:
            calls = (client.predict(given(name, text), SETUPS.get(name, name)) for name, text in asked)
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask_all())
    for (name, text), (answer,) in zip(asked, answers, strict=True):
        assert said(name, answer) == expected(place, name, MASKED if name == "words" else text), (name, text)


def test_rows_of_all_of_them_share_batches(served: Served, client: Client) -> None:
    def measured(name: str) -> float:
        import httpx

        lines = httpx.get(f"{served.url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    rows = measured("adapterhub_serving_batch_rows_sum")
    batches = measured("adapterhub_serving_batch_rows_count")
    client.compare(TEXTS, ["sentiment", "topics", "stars", "names", "vectors"])
    assert measured("adapterhub_serving_batch_rows_sum") - rows == 25
    assert measured("adapterhub_serving_batch_rows_count") - batches < 10


def test_one_input_is_compared_over_adapters_and_heads(place: Place, client: Client) -> None:
    found = client.compare(TEXTS[0], ["sentiment", "names", {"stack": ["german", "sentiment"]}], top_k=1)
    assert [one["task"] for one in found] == ["classification", "tagging", "classification"]
    assert [one["adapter"] for one in found] == ["sentiment", "names", {"stack": ["german", "sentiment"]}]
    assert len(found[0]["outputs"][0]["scores"]) == 1
    (other,) = client.predict(TEXTS[0], "german", head="sentiment")
    logits = alone(place, "german", TEXTS[0], head="sentiment")[0]["logits"][0]
    assert other["score"] == pytest.approx(logits.softmax(-1).max().item(), **CLOSE)


def test_vectors_for_texts_of_an_adapter_without_a_head_and_of_none(place: Place, client: Client) -> None:
    for adapter in ("", "german"):
        found = client.embed(TEXTS, adapter)
        for text, vector in zip(TEXTS, found, strict=True):
            output, _, _ = alone(place, adapter or None, text)
            mean = output["last_hidden_state"][0].mean(0)
            assert vector == pytest.approx((mean / mean.norm()).tolist(), **CLOSE)


def test_pairs_are_compared_by_vectors(client: Client) -> None:
    first, second = map(torch.tensor, client.embed(TEXTS[:2], "vectors"))
    (answer,) = client.predict({"text": TEXTS[0], "text_pair": TEXTS[1]}, "vectors")
    assert answer["similarity"] == pytest.approx((first @ second).item(), abs=1e-5)


def test_long_texts_are_read_in_windows_or_cut_off(place: Place, client: Client) -> None:
    long = " ".join(["the film was very good and"] * 40)
    (cut,) = client.predict(long, "sentiment")
    assert cut["truncated"]
    (tagged,) = client.predict(long, "names")
    assert not tagged["truncated"]
    assert max(one["end"] for one in tagged["spans"]) > len(long) // 2
    (answered,) = client.predict({"question": QUESTION, "context": f"{long} nice hotel"}, "answers")
    assert all(long.startswith(one["text"]) or one["text"] in f"{long} nice hotel" for one in answered["spans"])
