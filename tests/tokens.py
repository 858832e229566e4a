"""A tiny model with a tokenizer of real words, as a folder, for tests that go from text to predictions."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import load_file
from transformers import BertTokenizer, PreTrainedTokenizerBase

import tiny

GOOD, BAD = ["good", "great", "lovely", "fine", "nice"], ["bad", "awful", "poor", "sad", "dull"]
THINGS = ["film", "book", "soup", "hotel"]
WORDS = [*GOOD, *BAD, *THINGS, "the", "a", "is", "was", "very", "not", "and", "but", "i", "it"]


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A word-level tokenizer over ``WORDS``, saved in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]))
    made = BertTokenizer.from_pretrained(folder)
    made.save_pretrained(folder)
    return made


def model_folder(folder: Path, family: str = "bert", kind: str = "Model") -> Path:
    """A tiny random model of the family with that tokenizer."""
    tiny.model(family, kind).save_pretrained(folder)
    tokenizer(folder)
    return folder


def sentences(count: int) -> list[dict[str, object]]:
    """Labelled sentences, learnable by a bag of words."""
    rows: list[dict[str, object]] = []
    for index in range(count):
        word = (GOOD if index % 2 else BAD)[index // 2 % 5]
        rows.append({"text": f"the {THINGS[index % 4]} {'is' if index % 3 else 'was'} {word}", "label": index % 2})
    return rows


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Rows as a CSV file, its columns those of the first row."""
    content = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return path


def adapter_bytes(folder: Path) -> dict[str, bytes]:
    """The bytes of all tensors of the adapter, and its head, that a training left in ``folder``."""
    files = sorted((folder / "adapter").glob("*.safetensors"))
    return {key: tensor.numpy().tobytes() for path in files for key, tensor in load_file(path).items()}
