"""Texts as numbers: what a million series have in common is kept once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

I32 = np.ndarray[Any, np.dtype[np.int32]]


class Texts:
    """A table of different texts, each of which has a number from 0 on."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def number(self, text: str) -> int:
        """The number of a text; a new one is taken in."""
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """The numbers of several texts."""
        return [self.number(text) for text in texts]

    def extract(self, numbers: I32) -> tuple[list[str], I32]:
        """The texts among `numbers` in the order in which they first occur, and `numbers` as places in that list."""
        some, first, place = np.unique(numbers, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return [self._texts[number] for number in some[order].tolist()], rank[place].reshape(numbers.shape)

    def include(self, texts: Sequence[str], places: I32) -> I32:
        """The opposite of `extract`: take texts in; `places` in them as numbers of this table."""
        return np.array(self.numbers(texts), np.int32)[places]
