"""Stands in until the room itself is there."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class ClaimedScore:
    dataset: str
    metric: str
    value: float
    split: str = ""


@dataclass(frozen=True)
class Card:
    body: str
    title: str = ""
    summary: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    base: str = ""
    task: str = ""
    dataset: str = ""
    scores: tuple[ClaimedScore, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(text)
