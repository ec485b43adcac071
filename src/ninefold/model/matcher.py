"""Conditions on labels as Alertmanager means them, and a finder that tells at once which of many sets of conditions hold.

A label that is missing is the empty text. Regular expressions are RE2's and must match the whole value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.errors import BadData

OPS = ("=", "!=", "=~", "!~")
_WRITTEN = re.compile(r"\s*([^\s=!~{}\"',]+)\s*(=~|!~|!=|=)\s*(.*?)\s*\Z", re.DOTALL)
_TEXTS = re.compile(r"(?:[^.^$*+?{}\[\]\\|()]|\\[^a-zA-Z0-9_\s|]|\|)*", re.ASCII)
"""A regular expression that is alternatives of plain texts."""
_ESCAPED = re.compile(r"\\(.)")
_KEPT = 50_000
"""Values of a label whose answers are remembered."""
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label: `op` is =, !=, =~ or !~.

    Raises:
        BadData: there is no name, the operator is another, or the regular expression is none.
    """

    name: str
    op: str
    value: str
    _seen: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what can never be asked."""
        if not self.name:
            raise BadData("a matcher needs the name of a label")
        if self.op not in OPS:
            raise BadData(f"the operator {self.op!r} of the matcher on {self.name!r} is not known; use one of {' '.join(OPS)}")
        if self.op in ("=~", "!~"):
            _compiled(self.value, pa.array([""]), self.value)

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """A matcher as it is written: ``service=cart``, ``service=~"cart|checkout"``.

        Raises:
            BadData: it cannot be read.
        """
        found = _WRITTEN.match(text)
        if found is None:
            raise BadData(f'the matcher {text!r} cannot be read; write one such as service=cart or service=~"cart|checkout"')
        name, op, value = found.groups()
        if value[:1] == '"':
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise BadData(f"the value of the matcher {text!r} is not one quoted text") from error
        return cls(name, op, value)

    def __str__(self) -> str:
        """As it is written, e.g. ``service=~"cart|checkout"``."""
        return f"{self.name}{self.op}{orjson.dumps(self.value).decode()}"

    @property
    def needs_label(self) -> bool:
        """Whether it never holds for a label that is missing."""
        return not self.holds("")

    def holds(self, value: str) -> bool:
        """Whether it holds for a label of this value."""
        if self.op == "=":
            return value == self.value
        if self.op == "!=":
            return value != self.value
        known = self._seen.get(value)
        if known is None:
            if len(self._seen) >= _KEPT:
                self._seen.clear()
            known = self._seen[value] = bool(_full((self.value,), pa.array([value]))[0].as_py()) == (self.op == "=~")
        return known


def checked(matchers: Sequence[Matcher]) -> Sequence[Matcher]:
    """`matchers`, if they can be used together.

    Raises:
        BadData: all of them hold for an alert without any labels, so that they would hold for every one.
    """
    if not any(matcher.needs_label for matcher in matchers):
        raise BadData("at least one matcher must need a label, or everything would match; name an alert, a service or an entity")
    return matchers


class Finder(Generic[Key]):
    """Which of many sets of matchers hold for labels.

    A set of keys is the bits of one integer. For every value of a label it is worked out once which sets that value rules out; labels
    are judged by joining those of their values, so the cost of an alert does not depend on how many sets there are.

    Args:
        sets: the sets of matchers by key; each as `checked` wants it.
    """

    def __init__(self, sets: Mapping[Key, Sequence[Matcher]]) -> None:
        self._keys = list(sets)
        self._all = (1 << len(self._keys)) - 1
        grouped: dict[str, dict[Matcher, int]] = {}
        for number, matchers in enumerate(sets.values()):
            for matcher in checked(matchers):
                bits = grouped.setdefault(matcher.name, {})
                bits[matcher] = bits.get(matcher, 0) | 1 << number
        self._labels = {name: _Label(bits) for name, bits in grouped.items()}
        self._lists: dict[int, list[Key]] = {0: []}

    def __len__(self) -> int:
        """How many sets there are."""
        return len(self._keys)

    def find(self, labels: Sequence[Mapping[str, str]]) -> list[list[Key]]:
        """The keys of the sets that hold for each of the labels, in the order of the sets."""
        return [self.listed(bits) for bits in self.bits(labels)]

    def bits(self, labels: Sequence[Mapping[str, str]]) -> list[int]:
        """The sets that hold for each of the labels, the first set as the lowest bit."""
        left = [self._all] * len(labels)
        for name, label in self._labels.items():
            values = [each.get(name, "") for each in labels]
            refused = label.refused(values)
            left = [bits & ~refused[value] for bits, value in zip(left, values, strict=True)]
        return left

    def listed(self, bits: int) -> list[Key]:
        """The keys of the sets of these bits."""
        found = self._lists.get(bits)
        if found is None:
            if len(self._lists) >= _KEPT:
                self._lists = {0: []}
            found = self._lists[bits] = [self._keys[i] for i, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
        return found


class _Label:
    """The matchers on one label, each with the sets it is in, and the sets that a value of the label rules out.

    Of the matchers a value must fulfil (= and =~) most are not: what rules out is all their sets but those of the few it fulfils.
    That is wrong only for sets with several of them on this label, which are looked at one by one.
    """

    def __init__(self, bits: Mapping[Matcher, int]) -> None:
        must = {matcher: sets for matcher, sets in bits.items() if matcher.op in ("=", "=~")}
        seen = several = 0
        for sets in must.values():
            several |= seen & sets
            seen |= sets
        self._must = seen
        self._several = [(matcher, sets & several) for matcher, sets in must.items() if sets & several]
        self._equal, self._patterns = _sorted_out(bits, "=", "=~")
        self._unequal, self._never = _sorted_out(bits, "!=", "!~")
        self._known: dict[str, int] = {}

    def refused(self, values: Iterable[str]) -> dict[str, int]:
        """The sets each of these values rules out (and those of values seen before)."""
        new = [value for value in dict.fromkeys(values) if value not in self._known]
        if len(self._known) + len(new) > _KEPT:
            self._known, new = {}, list(dict.fromkeys(values))
        if not new:
            return self._known
        array = pa.array(new)
        fulfilled = {value: self._equal.get(value, 0) for value in new}
        broken = {value: self._unequal.get(value, 0) for value in new}
        for patterns, noted in ((self._patterns, fulfilled), (self._never, broken)):
            for sets, value in _matching(patterns, array):
                noted[value] |= sets
        for value in new:
            bits = self._must & ~fulfilled[value] | broken[value]
            for matcher, sets in self._several:
                if not matcher.holds(value):
                    bits |= sets
            self._known[value] = bits
        return self._known


def _sorted_out(bits: Mapping[Matcher, int], equal: str, like: str) -> tuple[dict[str, int], list[tuple[int, str]]]:
    """The sets of matchers of these operators by the texts they ask for; and those, with their patterns, that ask for no plain texts."""
    texts: dict[str, int] = {}
    patterns: list[tuple[int, str]] = []
    for matcher, sets in bits.items():
        if matcher.op == like and not _TEXTS.fullmatch(matcher.value):
            patterns.append((sets, matcher.value))
        elif matcher.op in (equal, like):
            plain = [_ESCAPED.sub(r"\1", text) for text in matcher.value.split("|")] if matcher.op == like else [matcher.value]
            for text in plain:
                texts[text] = texts.get(text, 0) | sets
    return texts, patterns


def _matching(patterns: Sequence[tuple[int, str]], values: Any) -> Iterable[tuple[int, str]]:
    """The pairs of a pattern's sets and a value it matches: values that match none of the patterns are gone after one look."""
    if not patterns or not len(values):
        return
    try:
        values = values.filter(_full([pattern for _, pattern in patterns], values))
    except BadData:
        if len(patterns) == 1:
            raise  # else they are too much for one pattern together
    if len(patterns) == 1:
        for value in values.to_pylist():
            yield patterns[0][0], value
        return
    middle = len(patterns) // 2
    yield from _matching(patterns[:middle], values)
    yield from _matching(patterns[middle:], values)


def _full(patterns: Sequence[str], values: Any) -> Any:
    """Whether any of the patterns matches each value as a whole."""
    whole = "|".join(f"(?:{pattern})" for pattern in patterns)
    return _compiled(f"(?s)\\A(?:{whole})\\z", values, patterns[0])


def _compiled(pattern: str, values: Any, said: str) -> Any:
    try:
        return pc.match_substring_regex(values, pattern)
    except pa.ArrowInvalid as error:
        raise BadData(f"the regular expression {said!r} cannot be used: {error}") from error
