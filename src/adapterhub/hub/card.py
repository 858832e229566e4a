"""Stands in until the room itself is there."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Card:
    body: str

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(text)
