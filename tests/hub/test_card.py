"""Cards: read with limits, written as the Hugging Face Hub reads them, made of what is known of an adapter."""

import ast
import json
import re
import time

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub.errors import UploadRefusedError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.card import Card, ClaimedScore
from adapterhub.hub.card_making import Facts, make_card
from adapterhub.hub.citations import papers
from adapterhub.hub.front_matter import parse, split, write
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash
from adapterhub.methods.registry import named_configs

OF_ADAPTERHUB = """---
tags:
- bert
- adapter-transformers
- adapterhub:sentiment/sst-2
- 2024
language:
- "en"
- no
datasets: glue
license: apache-2.0
base_model: bert-base-uncased
updated: 2021-05-01
ratio: 1:30
---

<!-- made by hand -->

# Adapter `AdapterHub/bert-base-uncased-pf-sst2` for bert-base-uncased

![badge](x.png)

An adapter for the model
that was trained on *SST-2*.

## Usage
```python
# no title
```
"""
RESULTS = """---
library_name: peft
model-index:
- name: me/a
  results:
  - task: {type: text-classification, name: Text}
    dataset: {type: glue, name: GLUE, config: sst2, split: validation, revision: abc}
    metrics:
    - {type: accuracy, value: 0.93, name: Accuracy, verified: true}
    - {type: f1, value: 1}
    - {type: confusion, value: [[1, 2]]}
    - {type: loss, value: .nan}
    - {value: 3}
  - dataset: {name: mine}
    metrics: [{type: mcc, value: 1e-3}]
---
"""


def test_a_card_of_adapterhub() -> None:
    card = Card.parse(OF_ADAPTERHUB)
    assert card.tags == ("bert", "adapter-transformers", "adapterhub:sentiment/sst-2", "2024")
    assert card.languages == ("en", "no") and card.datasets == ("glue",) and card.license == "apache-2.0"
    assert (card.base, card.base_models) == ("bert-base-uncased", ("bert-base-uncased",))
    assert (card.task, card.dataset, card.topics) == ("sentiment", "sst-2", (("sentiment", "sst-2"),))
    assert card.others == {"updated": "2021-05-01", "ratio": "1:30"}
    assert card.title == "Adapter `AdapterHub/bert-base-uncased-pf-sst2` for bert-base-uncased"
    assert card.summary == "An adapter for the model that was trained on *SST-2*."
    assert card.body.startswith("<!-- made by hand -->") and card.body.endswith("```\n")
    assert Card.parse(card.render()) == card
    assert Card.parse(OF_ADAPTERHUB.replace("\n", "\r\n").encode()) == card
    assert Card.parse("\ufeff" + OF_ADAPTERHUB) == card


def test_scores_are_claims() -> None:
    card = Card.parse(RESULTS)
    glue = {"dataset": "glue", "dataset_name": "GLUE", "config": "sst2", "split": "validation", "revision": "abc"}
    glue["task"] = "text-classification"
    assert card.scores == (
        ClaimedScore(metric="accuracy", metric_name="Accuracy", value=0.93, **glue),
        ClaimedScore(metric="f1", value=1, **glue),
        ClaimedScore("mine", "mcc", 0.001, dataset_name="mine"),
    )
    assert card.name == "me/a" and card.library_name == "peft"
    assert Card.parse(card.render()) == card


def test_empty_cards() -> None:
    assert Card.parse("") == Card() == Card.parse("---\n---\n") == Card.parse("---\n---")
    assert Card.parse("# A\n") == Card("# A\n") and Card("# A").title == "A"
    assert (Card().title, Card().summary, Card().task, Card().base, Card().render()) == ("", "", "", "", "")
    assert Card("---\nx").render() == "---\n---\n\n---\nx" and Card.parse(Card("---\nx").render()).body == "---\nx"
    assert Card("\n\n# #\n```\n# code\nprose in code\n```\n~~~\n```\n~~~\nreal").summary == "real"
    assert Card("# A\n\n" + "word " * 200).summary == ("word " * 200)[:499] + "…"


@pytest.mark.parametrize(
    ("front", "why"),
    {
        "a: &x 1\nb: *x": "an anchor or an alias",
        "a: [&a [x], *a]": "an anchor or an alias",
        "a: !!python/object/apply:os.system ['id']": "the tag",
        "a: !!binary aGk=": "the tag",
        "a: !!timestamp 2020-01-01": "the tag",
        "!x a: 1": "the tag",
        "a: 1\na: 2": "the key 'a' twice",
        "1: 1\n'1': 2": "the key '1' twice",
        "? [a]\n: 1": "as a key",
        "a: " + "[" * 17 + "]" * 17: "more than 16 levels",
        "a: " + "[" * 100_000: "more than 16 levels",
        "a: [" + "1," * 20_001 + "]": "more than 20,000 values",
        "a: " + "x" * 256 * 1024: "larger than 262,144 bytes",
        "- a": "must be keys with values",
        "text": "must be keys with values",
        "a: [": "is not YAML",
        "a: b: c": "is not YAML",
        "\ta: 1": "is not YAML",
        "a: \x01": "is not YAML",
        "%YAML 9.9\n": "is not YAML",
        "tags: {a: 1}": "'tags' must be a text or a list of texts",
        "tags: [[a]]": "'tags' must be a text or a list of texts",
        "license: [null]": "'license' must be a text",
        "model-index: x": "must be a list of models",
        "model-index: [1]": "must be a list of models",
        "model-index: [{results: 1}]": "must be a list",
        "model-index: [{results: [1]}]": "must be a list",
        "model-index: [{results: [{dataset: 1}]}]": "must have a task, a dataset",
        "model-index: [{results: [{metrics: {a: 1}}]}]": "a list of metrics",
        "model-index: [{results: [{metrics: [1]}]}]": "a type and a value",
    }.items(),
)
def test_wrong_front_matter(front: str, why: str) -> None:
    start = time.perf_counter()
    with pytest.raises(UploadRefusedError, match=re.escape(why)) as caught:
        Card.parse(f"---\n{front}\n---\n# A")
    assert str(caught.value).startswith("README.md") and len(str(caught.value)) < 600
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("text", ["---\na: 1\n", "---", "--- \na: 1\n --- x\n", b"\xff", "a\0b", "a: \udfff\n"])
def test_no_card(text: str | bytes) -> None:
    with pytest.raises(UploadRefusedError, match=r"README\.md"):
        Card.parse(text)


def test_bombs_cost_little() -> None:
    """What took hours in other readers of cards: repeated marks and line breaks, and aliases of aliases."""
    laughs = "a: &a [x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
    )
    for text in (
        "---\n" + "\n" * 500_000,
        "---\n" * 250_000,
        "-" * 1_000_000,
        "\r" * 1_000_000,
        f"---\n{laughs}---\n",
        "# " * 500_000,
    ):
        start = time.perf_counter()
        try:
            card = Card.parse(text)
            assert card.title is not None and card.summary is not None
        except UploadRefusedError:
            pass
        assert time.perf_counter() - start < 1


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "a: no\nb: Yes\nc: true\nd: ~\ne:\nf: 010\ng: 1_000\nh: 1.5e3\ni: .5\nj: 0x10\nk: '1'\nl: !!str 1\nm: -7\n"
    text += "n: .inf\no: 1e999\n"
    assert parse(text, "here") == {
        "a": "no",
        "b": "Yes",
        "c": True,
        "d": None,
        "e": None,
        "f": 10,
        "g": "1_000",
        "h": 1500.0,
        "i": 0.5,
        "j": "0x10",
        "k": "1",
        "l": "1",
        "m": -7,
        "n": ".inf",
        "o": "1e999",
    }
    block = split("---\na: |\n  one\n  two\nb: >\n  three\n  four\n---\nbody", "here")
    assert block == ({"a": "one\ntwo\n", "b": "three four\n"}, "body")


SIMPLE = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
ODD = st.sampled_from(
    ["no", "null", "~", "1.0", "1e5", "0E0", "010", "0x1", "2020-01-01", "- a", "---", "a: b", "#", "'", "", " "]
)
NAMES = TEXTS | ODD
JSON = st.recursive(
    SIMPLE | NAMES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
KNOWN = ("tags", "language", "datasets", "base_model", "license", "library_name", "pipeline_tag", "model-index")


@st.composite
def cards(draw) -> Card:
    lists = [tuple(draw(st.lists(NAMES, max_size=3))) for _ in range(4)]
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-100, 100)
    filled = NAMES.filter(bool)
    scores = st.builds(
        ClaimedScore,
        filled,
        filled,
        numbers,
        NAMES,
        NAMES,
        dataset_name=NAMES,
        metric_name=NAMES,
        config=NAMES,
        revision=NAMES,
    )
    body = draw(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r")) | ODD).lstrip("\n")
    others = draw(st.dictionaries(NAMES.filter(lambda name: name not in KNOWN), JSON, max_size=3))
    found = tuple(draw(st.lists(scores, max_size=4)))
    return Card(body, *lists, *(draw(NAMES) for _ in range(3)), found, draw(NAMES), others)


@settings(max_examples=300, deadline=None)
@given(cards())
def test_what_is_written_is_read_back(card: Card) -> None:
    text = card.render()
    assert Card.parse(text) == card
    assert json.loads(json.dumps(card.front_matter(), allow_nan=False)) == card.front_matter()
    if card.front_matter():  # what PyYAML, and so the Hugging Face Hub, reads
        front = text.split("\n---\n")[0].removeprefix("---\n")
        assert yaml.safe_load(front) == card.front_matter()


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("-\n: ab[]{}'\"&*!|>#%@`,?~\t0") | st.characters(), max_size=60), NAMES)
def test_any_text_is_read_or_refused(front: str, body: str) -> None:
    for text in (front, f"---\n{front}\n---\n{body}"):
        try:
            card = Card.parse(text)
        except UploadRefusedError:
            continue
        assert Card.parse(card.render()) == card
        assert len(card.summary) <= 500 and "\n" not in card.title


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_values_are_written_as_they_are(value: object) -> None:
    assert split(write({"a": value, "b": [value, value]}, "x"), "here") == ({"a": value, "b": [value, value]}, "x")


def info(**changes) -> AdapterInfo:
    config = {"method": "lora", "r": 8, "alpha": 16, "use_dora": True, "dropout": None}
    values = {
        "kind": "adapter",
        "format": "adapterhub",
        "name": "sst2",
        "method": "lora",
        "methods": ("lora",),
        "config": config,
        "config_hash": config_hash(config),
        "parameters": 294912,
        "dtypes": ("F32",),
        "size": 1180000,
        "base": "roberta-base",
        "model_type": "roberta",
        "head": HeadInfo("classification", ("neg", "pos"), 2),
        "needs": (Need(0, "layers.0.attention.q", 768, 768),),
    }
    return AdapterInfo(**values | changes)


FACTS = Facts(
    description="Learns **fast**.",
    license="mit",
    task="sentiment",
    dataset="sst-2",
    languages=("en",),
    datasets=("glue",),
    scores=(ClaimedScore("glue", "accuracy", 0.934, "validation", "text-classification", "GLUE", "Accuracy"),),
    tags=("small",),
)


def test_a_card_is_made() -> None:
    card = make_card("me/roberta-sst2", info(), FACTS)
    assert Card.parse(card.render()) == card
    assert card.title == "me/roberta-sst2"
    assert card.summary == "An adapter (LoRA) for `roberta-base`, trained on sentiment/sst-2."
    assert card.tags == ("adapterhub", "lora", "roberta", "adapterhub:sentiment/sst-2", "small")
    assert card.front_matter()["base_model"] == ["roberta-base"]
    assert card.others == {"base_model_relation": "adapter"} and card.pipeline_tag == "text-classification"
    assert "| GLUE | validation | Accuracy | 0.934 |" in card.body and "| r | 8 |" in card.body
    assert "| parameters | 294,912 (F32) |" in card.body and "| head | classification (neg, pos) |" in card.body
    assert "dropout" not in card.body and "Learns **fast**." in card.body
    assert "2106.09685" in card.body and "2402.09353" in card.body  # LoRA and DoRA


def test_the_hugging_face_hub_reads_it_alike() -> None:
    theirs = ModelCard(make_card("me/roberta-sst2", info(), FACTS).render())
    data = theirs.data
    assert data.tags == ["adapterhub", "lora", "roberta", "adapterhub:sentiment/sst-2", "small"]
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "adapterhub", "text-classification")
    assert (data.base_model, data.datasets, data.language) == (["roberta-base"], ["glue"], ["en"])
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_split, result.metric_type) == ("glue", "validation", "accuracy")
    assert (result.metric_value, result.task_type, data.model_name) == (0.934, "text-classification", "me/roberta-sst2")


@pytest.mark.parametrize("form", ["adapterhub", "adapters", "peft"])
@pytest.mark.parametrize("kind", ["adapter", "fusion", "composition", "head", "embeddings"])
def test_code_is_code(form: str, kind: str) -> None:
    card = make_card('me/x"y', info(kind=kind, format=form, method=kind, base='a"\n```\nimport os'), None)
    (code,) = re.findall(r"```python\n(.*?)\n```\n", card.body, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert calls and all(not isinstance(node, ast.Import) for node in ast.walk(ast.parse(code)))
    library = {"adapterhub": "adapterhub", "adapters": "adapters", "peft": "peft"}[form]
    assert code.startswith(f"from {library} import")
    assert {"adapters": "adapter-transformers"}.get(form, form) == card.library_name == card.tags[0]
    if form != "peft":
        wanted = {"adapter": "load_adapter", "fusion": "load_adapter_fusion", "composition": "load_adapter_setup"}
        wanted |= {"head": "load_head", "embeddings": "load_embeddings"}
        assert f"model.{wanted[kind]}(" in code
        assert ("use_safetensors=True" in code) == (form == "adapters")


def test_texts_of_strangers_mean_themselves() -> None:
    bad = "<script>alert(1)</script> | [x](javascript:1) `"
    config = {"method": "lora", bad: bad}
    card = make_card(bad, info(config=config, base=bad, head=HeadInfo(bad, (bad,), 1)), Facts(task=bad))
    prose = re.sub(r"```.*?```", "", card.body, flags=re.DOTALL)
    assert "<script" not in prose and "](" not in prose and card.title.startswith("&#60;script")
    assert all(line.count("|") == 3 for line in prose.split("\n") if line.startswith("|"))


def test_peft_models_are_loaded_by_their_class() -> None:
    made = make_card("a/b", info(format="peft", config={"method": "lora", "task_type": "SEQ_CLS"}))
    assert "AutoModelForSequenceClassification.from_pretrained" in made.body
    assert (
        "AutoModelForTokenClassification"
        in make_card("a/b", info(format="peft", model_class="BertForTokenClassification")).body
    )


def test_every_method_has_a_paper() -> None:
    for config in named_configs().values():
        values = config.to_dict()
        methods = [one["method"] for one in values.get("configs", [values])]
        assert papers(methods, values), methods
    assert [paper.arxiv for paper in papers(["bottleneck"], ["inv_adapter", "phm_layer", "r"])] == [
        "1902.00751",
        "2005.00052",
        "2106.04647",
    ]
    assert papers(["bottleneck"], [])[0].bibtex().startswith("@misc{houlsby2019parameter,\n  title = {")


def test_no_base_no_claim() -> None:
    fingerprint = Fingerprint("", None, "bert", 32, 2, 99, None, None, None)
    card = make_card("a/b", info(base=None, fingerprint=fingerprint, head=None))
    assert card.base_models == () and card.others == {} and card.pipeline_tag == ""
    assert card.summary == "An adapter (LoRA)." and '"the base model"' in card.body
