"""Each kind of head: the answers are those of transformers' pipelines, or of the equation, for each text alone."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertForQuestionAnswering,
    FillMaskPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
)
from transformers.modeling_outputs import QuestionAnsweringModelOutput

import tiny
import tokens
from adapterhub import AutoAdapterModel, Predictor
from adapterhub.errors import ConfigError, DataError, HeadError
from adapterhub.inference import Classification, MaskedLM, MultiLabel, QuestionAnswering, Tagging

TEXTS = ["the film is very good", "a", "the soup was awful and the hotel was not nice", "good"]
LONG = " ".join(itertools.islice(itertools.cycle(tokens.WORDS), 70))
PAIRS = [("the film is good", "it is bad"), ("a", "the soup was awful and not nice")]
ENTITIES = {0: "O", 1: "B-GOOD", 2: "I-GOOD", 3: "THING"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that divides some words into several tokens."""
    folder = tmp_path_factory.mktemp("pieces")
    tokens.tokenizer(folder)
    words = [word for word in tokens.WORDS if word not in ("hotel", "lovely", "awful")]
    pieces = ["ho", "##te", "##l", "lo", "##vely", "aw", "##f", "##ul", ",", "."]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    from transformers import BertTokenizer

    (folder / "vocab.txt").write_text("\n".join([*special, *words, *pieces]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, model_max_length=24)


def model_with(head_type: str, **options: Any) -> Any:
    """A tiny model with an adapter and a head whose answers are not all alike."""
    from adapterhub import BertAdapterModel

    torch.manual_seed(0)
    model = BertAdapterModel(tiny.config("bert"))
    model.add_adapter("a", set_active=True)
    tiny.randomise(model, "a", 0.1)
    model.add_custom_head(head_type, "a", **options)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(30)
    return model.eval()


def predict(model: Any, tokenizer: Any, given: list[Any], task: Any = None) -> list[dict[str, Any]]:
    return Predictor(model, tokenizer, task=task, precision="fp32", token_budget=64).predict(given)


def near(given: Any, wanted: Any) -> None:
    """Equal in all but the last digits of numbers."""
    assert type(given) is type(wanted) or isinstance(wanted, float | np.floating)
    if isinstance(wanted, dict):
        assert list(given) == list(wanted)
        for name in wanted:
            near(given[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(given) == len(wanted)
        for one, other in zip(given, wanted, strict=True):
            near(one, other)
    else:
        assert given == (pytest.approx(float(wanted), abs=2e-5) if isinstance(wanted, float | np.floating) else wanted)


@pytest.mark.parametrize("labels", [1, 3])
def test_classification(tokenizer: Any, labels: int) -> None:
    model = model_with("classification", num_labels=labels)
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer)
    near(predict(model, tokenizer, TEXTS), pipeline(TEXTS))
    pairs = [{"text": first, "text_pair": second} for first, second in PAIRS]
    near(predict(model, tokenizer, PAIRS), pipeline(pairs))
    near(predict(model, tokenizer, pairs), pipeline(pairs))
    best = predict(model, tokenizer, TEXTS, Classification(top_k=2))
    near(
        best,
        [{"labels": one} if labels > 1 else one[0] | {} for one in pipeline(TEXTS, top_k=2)]
        if labels > 1
        else [{"labels": one} for one in pipeline(TEXTS, top_k=2)],
    )


def test_multi_label(tokenizer: Any) -> None:
    model = model_with("multilabel_classification", id2label={0: "x", 1: "y", 2: "z"})
    scores = [
        {one["label"]: one["score"] for one in found}
        for found in TextClassificationPipeline(model=model, tokenizer=tokenizer)(TEXTS, top_k=None)
    ]
    for threshold in (0.5, 0.2):
        for answer, wanted in zip(predict(model, tokenizer, TEXTS, MultiLabel(threshold)), scores, strict=True):
            assert answer["scores"] == pytest.approx(wanted, abs=1e-5)
            assert answer["labels"] == [label for label in "xyz" if wanted[label] > threshold]


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_entities(tokenizer: Any, aggregation: Any) -> None:
    model = model_with("tagging", id2label=ENTITIES)
    texts = [*TEXTS, "lovely hotel, awful lovely hotel.", "nice lovely film , soup"]
    pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, aggregation_strategy=aggregation)
    found = 0
    for text, answer, wanted in zip(
        texts, predict(model, tokenizer, texts, Tagging(aggregation)), pipeline(texts), strict=True
    ):
        found += len(wanted)
        near(answer["entities"], [one | {"word": text[one["start"] : one["end"]]} for one in wanted])
    assert found > 5


def test_tokens_one_by_one(tokenizer: Any) -> None:
    model = model_with("tagging", id2label=ENTITIES)
    pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer)
    for text, answer in zip(TEXTS, predict(model, tokenizer, TEXTS, Tagging("none")), strict=True):
        wanted = [
            {key: one[key] for key in ("entity", "score")}
            | {"word": text[one["start"] : one["end"]], "start": one["start"], "end": one["end"]}
            for one in pipeline(text)
        ]
        near(answer["entities"], wanted)


def test_tags_of_words(tokenizer: Any) -> None:
    model = model_with("tagging", id2label=ENTITIES)
    words = [["the", "hotel", "is", "lovely,"], ["awful"], ["a", "", "film"]]
    for given, answer in zip(words, predict(model, tokenizer, words), strict=True):
        encoded = tokenizer(given, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            shares = model(**encoded).logits[0].softmax(-1)
        places = encoded.word_ids()
        for index, (tag, score) in enumerate(zip(answer["tags"], answer["scores"], strict=True)):
            wanted = shares[places.index(index)] if index in places else torch.tensor([0.0])
            assert score == pytest.approx(wanted.max().item(), abs=1e-5)
            assert tag == ENTITIES[int(wanted.argmax())]
        assert len(answer["tags"]) == len(given)


def test_all_of_a_long_text_is_tagged(tokenizer: Any) -> None:
    model = model_with("tagging", id2label=ENTITIES)
    (answer,) = predict(model, tokenizer, [LONG.split()], Tagging(stride=5))
    # By hand: windows of 22 tokens that start every 17, each token from the window where it is farthest from an end.
    ids = tokenizer(LONG, add_special_tokens=False, truncation=False)["input_ids"]
    words = tokenizer(LONG.split(), is_split_into_words=True, add_special_tokens=False, truncation=False).word_ids()
    shares: dict[int, tuple[float, torch.Tensor]] = {}
    for start in range(0, len(ids), 17):
        part = ids[start : start + 22]
        inputs = torch.tensor([[tokenizer.cls_token_id, *part, tokenizer.sep_token_id]])
        with torch.no_grad():
            scores = model(input_ids=inputs).logits[0, 1:-1].softmax(-1)
        for place in range(len(part)):
            before = place if start else 99
            after = len(part) - 1 - place if start + 22 < len(ids) else 99
            if start + place not in shares or min(before, after) > shares[start + place][0]:
                shares[start + place] = min(before, after), scores[place]
        if start + 22 >= len(ids):
            break
    wanted = [shares[words.index(word)][1] for word in range(70)]
    assert answer["tags"] == [ENTITIES[int(one.argmax())] for one in wanted]
    assert answer["scores"] == pytest.approx([one.max().item() for one in wanted], abs=1e-5)


def spans(model: Any, tokenizer: Any, question: str, text: str, longest: int) -> dict[tuple[int, int], float]:
    """The probability of every span, tried one by one, in a text that is short enough for one window."""
    encoded = tokenizer(question, text, return_tensors="pt", return_offsets_mapping=True)
    offsets, parts = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids()
    with torch.no_grad():
        output = model(**encoded)
    kept = torch.tensor([index == 0 or part == 1 for index, part in enumerate(parts)])
    start, end = (one[0].masked_fill(~kept, -torch.inf).softmax(-1) for one in (output.start_logits, output.end_logits))
    found: dict[tuple[int, int], float] = {(0, 0): float(start[0] * end[0])}
    for first, last in itertools.product(range(len(parts)), repeat=2):
        if parts[first] == parts[last] == 1 and first <= last < first + longest:
            words = [encoded.word_to_chars(0, encoded.token_to_word(0, place), 1) for place in (first, last)]
            key = (words[0][0], words[1][1])
            found[key] = found.get(key, 0.0) + float(start[first] * end[last])
    assert offsets
    return found


@pytest.mark.parametrize("longest", [2, 30])
def test_question_answering(tokenizer: Any, longest: int) -> None:
    model = model_with("question_answering")
    for question, text in [("is it good", "the hotel is lovely and the soup was awful"), ("the", "a"), ("a", "film")]:
        wanted = spans(model, tokenizer, question, text, longest)
        nothing = wanted.pop((0, 0))
        (start, end), score = max(wanted.items(), key=lambda pair: pair[1])
        near(
            predict(model, tokenizer, [(question, text)], QuestionAnswering(max_answer_length=longest)),
            [{"answer": text[start:end], "score": score, "start": start, "end": end}],
        )
        (several,) = predict(
            model,
            tokenizer,
            [{"question": question, "context": text}],
            QuestionAnswering(top_k=3, max_answer_length=longest, impossible=True),
        )
        best = sorted({**wanted, (0, 0): nothing}.items(), key=lambda pair: -pair[1])[:3]
        assert [(one["start"], one["end"]) for one in several["answers"]] == [key for key, _ in best]
        assert [one["score"] for one in several["answers"]] == pytest.approx([score for _, score in best], abs=1e-5)


def test_an_answer_is_found_in_any_window_of_a_long_text(tokenizer: Any) -> None:
    """A model that answers by the word: "good" above all, and in windows without it "soup"."""
    model = BertForQuestionAnswering(tiny.config("bert")).eval()
    best, second = tokenizer.convert_tokens_to_ids(["good", "soup"])

    def forward(input_ids: torch.Tensor, **rest: Any) -> Any:
        logits = (input_ids == best) * 9.0 + (input_ids == second) * 6.0
        return QuestionAnsweringModelOutput(start_logits=logits, end_logits=logits)

    for place in (0, 15, 33, 60, 69):
        words = ["good" if index == place else "soup" if index % 69 == 0 else "film" for index in range(70)]
        predictor = Predictor(model, tokenizer, task=QuestionAnswering(stride=6), precision="fp32")
        predictor.model.forward = forward
        (answer,) = predictor.predict([("is it very " * 30, " ".join(words))])
        assert (answer["answer"], answer["start"]) == ("good", 5 * place)


def test_masked_tokens(tokenizer: Any) -> None:
    model = model_with("masked_lm")
    pipeline = FillMaskPipeline(model=model, tokenizer=tokenizer)
    texts = ["the [MASK] is good", "[MASK] was not [MASK]"]
    for text, answer in zip(texts, predict(model, tokenizer, texts, MaskedLM(top_k=3)), strict=True):
        found = pipeline(text, top_k=3)
        wanted = [found] if isinstance(found[0], dict) else found
        near(
            answer["fills"],
            [[{key: one[key] for key in ("token", "token_str", "score")} for one in place] for place in wanted],
        )
    with pytest.raises(DataError, match=r"nothing is masked.*\[MASK\]"):
        predict(model, tokenizer, [LONG + " [MASK]"])


def test_multiple_choice(tokenizer: Any) -> None:
    model = model_with("multiple_choice", num_choices=3)
    given = [("the film", ["is good", "was bad and very sad", "a"]), ("a soup", ["is", "was", "but it is not"])] * 3
    answers = predict(model, tokenizer, given)
    for (prompt, choices), answer in zip(given, answers, strict=True):
        inputs = tokenizer([prompt] * 3, choices, return_tensors="pt", padding=True)
        with torch.no_grad():
            shares = model(**{name: one[None] for name, one in inputs.items()}).logits[0].softmax(-1)
        best = int(shares.argmax())
        near(answer, {"choice": best, "text": choices[best], "score": shares[best].item(), "scores": shares.tolist()})
    near(predict(model, tokenizer, [{"prompt": prompt, "choices": choices} for prompt, choices in given]), answers)
    with pytest.raises(HeadError, match="made for 3 choices"):  # 2 and 4 are not 3 and 3
        predict(model, tokenizer, [("a", ["a", "film", "soup"]), ("a", ["a", "film"]), ("a", ["a"] * 4)])
    with pytest.raises(DataError, match="a prompt and a list"):
        predict(model, tokenizer, [("the film", "is good")])


def test_embeddings(tokenizer: Any) -> None:
    model = model_with("sentence_embedding", width=5)
    for text, answer in zip(TEXTS, predict(model, tokenizer, TEXTS), strict=True):
        with torch.no_grad():
            wanted = model(**tokenizer(text, return_tensors="pt")).embeddings[0]
        assert answer["embedding"].dtype == np.float32
        np.testing.assert_allclose(answer["embedding"], wanted.numpy(), atol=1e-5)


def test_a_head_that_a_checkpoint_brings(tokenizer: Any, tmp_path: Path) -> None:
    whole = tiny.model("bert", "ForTokenClassification", num_labels=4, id2label=ENTITIES)
    whole.save_pretrained(tmp_path)
    model = AutoAdapterModel.from_pretrained(tmp_path)
    pipeline = TokenClassificationPipeline(model=whole, tokenizer=tokenizer, aggregation_strategy="simple")
    for text, answer in zip(TEXTS, predict(model, tokenizer, TEXTS, Tagging("simple")), strict=True):
        near(answer["entities"], [one | {"word": text[one["start"] : one["end"]]} for one in pipeline(text)])


def test_what_cannot_be(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="aggregation is one of"):
        Tagging("last")  # type: ignore[arg-type]
    model = model_with("tagging", id2label=ENTITIES)
    with pytest.raises(DataError, match="lists of words"):
        predict(model, tokenizer, ["a", ["b"]])
    with pytest.raises(DataError, match="a question and a text"):
        predict(model_with("question_answering"), tokenizer, ["a"])
