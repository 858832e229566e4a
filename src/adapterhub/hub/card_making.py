"""A card for an adapter, made of what its files say and of what its author adds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterhub.hub.card import TOPIC, Card, ClaimedScore
from adapterhub.hub.citations import papers
from adapterhub.hub.inspecting.info import AdapterInfo

_SETTINGS = 24  # rows of the table
_LIBRARIES = {"adapterhub": "adapterhub", "adapters": "adapter-transformers", "peft": "peft"}
_PIPELINES = {
    "classification": "text-classification",
    "multilabel_classification": "text-classification",
    "tagging": "token-classification",
    "question_answering": "question-answering",
    "image_classification": "image-classification",
    "causal_lm": "text-generation",
    "masked_lm": "fill-mask",
    "sentence_embedding": "sentence-similarity",
}
_PIPELINES |= {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForCausalLM": "text-generation",
    "ForMaskedLM": "fill-mask",
}
_WHATS = {
    "adapter": "An adapter",
    "fusion": "A fusion of adapters",
    "head": "A prediction head",
    "embeddings": "Embeddings",
    "composition": "A composition of adapters",
}
_METHODS = {
    "bitfit": "BitFit",
    "bottleneck": "bottleneck",
    "ia3": "(IA)³",
    "ladder": "ladder side-tuning",
    "lhuc": "LHUC",
    "ln_tuning": "layer-norm tuning",
    "lora": "LoRA",
    "mtl_lora": "MTL-LoRA",
    "prefix_tuning": "prefix tuning",
    "prompt_tuning": "prompt tuning",
    "reft": "ReFT",
    "vera": "VeRA",
}


@dataclass(frozen=True)
class Facts:
    """What the author of an adapter says of it, and its files do not.

    Attributes:
        description: a paragraph of Markdown.
        license: its name, as ``mit`` or ``apache-2.0``.
        task, dataset: where it belongs in the catalogue, in the place of what the files say; a task is a language,
            too, of an adapter for one.
        languages, datasets: codes of languages, and ids of data sets on the Hugging Face Hub.
        scores: results that were measured.
        tags: more of them.
    """

    description: str = ""
    license: str = ""
    task: str = ""
    dataset: str = ""
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    scores: tuple[ClaimedScore, ...] = ()
    tags: tuple[str, ...] = ()


def make_card(repository: str, info: AdapterInfo, facts: Facts | None = None) -> Card:
    """The card of what is in ``repository`` (``owner/name``), which the Hugging Face Hub and AdapterHub understand."""
    facts = facts or Facts()
    task, dataset = facts.task or info.task or "", facts.dataset or info.dataset or ""
    topic = "/".join(part for part in (task, dataset) if part)
    library = _LIBRARIES[info.format]
    tags = [library, *info.methods, info.model_type or "", f"{TOPIC}{topic}" if topic else "", *facts.tags]
    named = info.base is not None and not info.base.startswith((".", "/"))
    return Card(
        body="\n\n".join(_sections(repository, info, facts, topic)) + "\n",
        tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
        languages=facts.languages or info.languages,
        datasets=facts.datasets,
        base_models=(str(info.base),) if named else (),
        license=facts.license,
        library_name=library,
        pipeline_tag=_pipeline(info),
        scores=facts.scores,
        name=repository if facts.scores else "",
        others={"base_model_relation": "adapter"} if named else {},
    )


def _pipeline(info: AdapterInfo) -> str:
    if info.head is None:
        return ""
    return next((tag for kind, tag in _PIPELINES.items() if info.head.type.endswith(kind)), "")


def _sections(repository: str, info: AdapterInfo, facts: Facts, topic: str) -> Iterator[str]:
    yield f"# {_plain(repository)}"
    yield _first_words(info, topic)
    if facts.description:
        yield facts.description.strip()
    yield "## How to use it"
    yield f"```python\n{_code(repository, info)}\n```"
    if facts.scores:
        yield "## Scores"
        yield _table(("data set", "split", "metric", "value"), [_row(score) for score in facts.scores])
    yield "## Settings"
    yield _table(("", ""), list(_settings(info)))
    if cited := papers(info.methods, _on(info.config)):
        yield "## Citation"
        yield "```bibtex\n" + "\n\n".join(paper.bibtex() for paper in cited) + "\n```"


def _first_words(info: AdapterInfo, topic: str) -> str:
    methods = " and ".join(_METHODS.get(method, method) for method in info.methods if info.method != info.kind)
    what = _WHATS[info.kind] + (f" ({methods})" if methods else "")
    base = f" for `{_plain(info.base)}`" if info.base else ""
    return f"{what}{base}{f', trained on {_plain(topic)}' if topic else ''}."


def _code(repository: str, info: AdapterInfo) -> str:
    """What loads it, in the library of its format."""
    name, base = json.dumps(repository), json.dumps(info.base or "the base model")
    if info.format == "peft":
        return "\n".join(
            (
                "from peft import PeftModel",
                f"from transformers import {(kind := _auto_class(info))}",
                "",
                f"base = {kind}.from_pretrained({base})",
                f"model = PeftModel.from_pretrained(base, {name})",
            )
        )
    verb = {"fusion": "load_adapter_fusion", "composition": "load_adapter_setup", "head": "load_head"}
    safe = ", use_safetensors=True" if info.format == "adapters" else ""
    active = "" if info.kind in ("head", "embeddings") else ", set_active=True"
    call = {"embeddings": "load_embeddings"}.get(info.kind, verb.get(info.kind, "load_adapter"))
    more = ', "default"' if info.kind == "embeddings" else ""
    return "\n".join(
        (
            f"from {'adapters' if info.format == 'adapters' else 'adapterhub'} import AutoAdapterModel",
            "",
            f"model = AutoAdapterModel.from_pretrained({base})",
            f"model.{call}({name}{more}{active}{safe})",
        )
    )


def _auto_class(info: AdapterInfo) -> str:
    ends = (
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
        "ForSeq2SeqLM",
        "ForCausalLM",
    )
    kinds = {
        "SEQ_CLS": ends[0],
        "TOKEN_CLS": ends[1],
        "QUESTION_ANS": ends[2],
        "SEQ_2_SEQ_LM": ends[3],
        "CAUSAL_LM": ends[4],
    }
    found = kinds.get(str(info.config.get("task_type")))
    return "AutoModel" + (found or next((end for end in ends if (info.model_class or "").endswith(end)), ""))


def _row(score: ClaimedScore) -> tuple[str, ...]:
    return score.dataset_name or score.dataset, score.split, score.metric_name or score.metric, f"{score.value:g}"


def _settings(info: AdapterInfo) -> Iterator[tuple[str, str]]:
    if info.methods:  # a recipe has no parameters of its own
        yield "method", ", ".join(_METHODS.get(method, method) for method in info.methods)
        yield "parameters", f"{info.parameters:,} ({', '.join(info.dtypes)})"
    if info.head is not None:
        labels = ", ".join(info.head.labels or ()) or (str(info.head.num_labels) if info.head.num_labels else "")
        yield "head", info.head.type + (f" ({labels})" if labels else "")
    rows = [
        (key, value) for key, value in info.config.items() if key != "method" and value not in (None, False, "", [], {})
    ]
    for key, value in rows[:_SETTINGS]:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _on(config: Mapping[str, Any]) -> list[str]:
    """The options that are on, of all members of a union."""
    found = [key for key, value in config.items() if value]
    for member in config.get("configs") or ():
        found += _on(member) if isinstance(member, dict) else []
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """A text of strangers as one line of Markdown that means itself."""
    line = " ".join(text.split())[:300]
    return "".join(f"&#{ord(letter)};" if letter in "`<>|\\[]" else letter for letter in line)
