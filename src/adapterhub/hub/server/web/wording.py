"""How numbers, times and names of methods are written on pages."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from adapterhub.hub.server.database import now

_METHODS = {
    "bottleneck": "Bottleneck",
    "lora": "LoRA",
    "dora": "DoRA",
    "adalora": "AdaLoRA",
    "mtl_lora": "MTL-LoRA",
    "vera": "VeRA",
    "ia3": "(IA)³",
    "prefix_tuning": "Prefix tuning",
    "prompt_tuning": "Prompt tuning",
    "p_tuning": "P-tuning",
    "reft": "ReFT",
    "ladder": "Ladder side-tuning",
    "bitfit": "BitFit",
    "lhuc": "LHUC",
    "ln_tuning": "LayerNorm tuning",
    "union": "Union",
    "fusion": "AdapterFusion",
    "composition": "Composition",
    "head": "Prediction head",
    "embeddings": "Embeddings",
    "lokr": "LoKr",
    "loha": "LoHa",
    "oft": "OFT",
    "boft": "BOFT",
}
_FORMATS = {"adapterhub": "adapterhub", "adapters": "adapters", "peft": "PEFT"}
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")
_STEPS = ((60, "second", 1), (3600, "minute", 60), (86400, "hour", 3600), (86400 * 30, "day", 86400))


def method(name: str) -> str:
    """A method as papers write it."""
    return _METHODS.get(name, name.replace("_", " "))


def file_format(name: str) -> str:
    """The format of a checkpoint as its library is called."""
    return _FORMATS.get(name, name)


def short(number: float) -> str:
    """A number in at most four characters or so: 950, 1.2k, 37M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            value = number / limit
            return f"{value:.1f}{unit}" if value < 10 and round(value, 1) % 1 else f"{value:.0f}{unit}"
    return f"{number:,.0f}"


def size(number: float) -> str:
    """A number of bytes."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}" if number < 100 * limit else f"{number / limit:.0f} {unit}"
    return f"{number:.0f} bytes" if number != 1 else "1 byte"


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 adapter, 2,000 adapters."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def ago(time: datetime) -> str:
    """How long ago a time was; a date if that is long."""
    seconds = (now() - time).total_seconds()
    if seconds < 5:
        return "just now"
    for limit, noun, length in _STEPS:
        if seconds < limit:
            return f"{plural(int(seconds // length), noun)} ago"
    return date(time)


def date(time: datetime) -> str:
    """A day: 3 May 2026."""
    return f"{time.day} {time:%B %Y}"


def score(value: float) -> str:
    """A result: fractions as per cent, as tables in papers have them."""
    return f"{value * 100:.1f}" if -1 <= value <= 1 else f"{value:.2f}"


def value(one: Any) -> str:
    """A value of a configuration."""
    if isinstance(one, bool):
        return "yes" if one else "no"
    if one is None:
        return "none"
    if isinstance(one, list | tuple):
        return ", ".join(map(value, one)) or "none"
    if isinstance(one, Mapping):
        return ", ".join(f"{key}: {value(inner)}" for key, inner in one.items()) or "none"
    return f"{one:g}" if isinstance(one, float) else str(one)


def words(name: str) -> str:
    """An option as words: reduction_factor is Reduction factor."""
    plain = name.replace("_", " ")
    return plain[:1].upper() + plain[1:]


def plain(text: str) -> str:
    """A sentence of Markdown without its marks, for a line of a list."""
    return _MARKS.sub("", _LINK.sub(r"\1", text))


def sentence(text: str) -> str:
    """A message as a sentence: with a capital, and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


FILTERS: Mapping[str, Callable[..., str]] = {
    "method": method,
    "file_format": file_format,
    "short": short,
    "size": size,
    "plural": plural,
    "ago": ago,
    "date": date,
    "score": score,
    "value": value,
    "words": words,
    "plain": plain,
    "sentence": sentence,
}
