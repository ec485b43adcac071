r"""Log templates: typed masks, then hole-context merging. Streaming, deterministic, explainable, no similarity threshold.

1. *Mask*: one regular expression replaces dates, addresses, paths, ids and numbers. Its quantifiers are possessive or bounded,
   so a line costs time linear in its length.
2. *Tokenise* on white space and punctuation; a token that holds a masked value is a wildcard; neighbouring wildcards collapse.
   Lines with the same token tuple have the same template.
3. *Hole contexts*, only for a tuple never seen before: for each position, the tuple without it is a context. Once a context
   has collected enough different fillers (2 that look like identifiers, 3 after ``=`` or words like *user*, 5 plain words),
   that position becomes a wildcard and the templates merge; the numbers of merged templates stay resolvable.

A template's *id* is a hash of its skeleton, the tokens with their wildcards: whoever finds the same template calls it the same, in
whatever order the lines came. When templates merge, the ids of all their earlier skeletons lead to the merged one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from hashlib import blake2b

LINE_LIMIT, TOKEN_LIMIT = 2048, 200
WILD = "<*>"
_CONTEXT_LIMIT = 400_000
_MARK = "\0"
_MASK = re.compile(
    r"""
    (?<![A-Za-z0-9])(?:                                         # branches begin with a character set: the engine skips them fast
      [0-9a-fA-F][0-9a-fA-F]{7}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b                       # uuid
    | [a-z][a-z0-9+.-]{1,15}+://[^\s"'<>()\[\],;]++                                           # url
    | [A-Z](?:[a-z]{2,8}+,?[ ][A-Z])?+(?:an|eb|ar|pr|ay|un|ul|ug|ep|ct|ov|ec)[a-z]{0,6}+      # Fri Jun 17 07:07:00 2005
      [ ]{1,2}\d{1,2}+(?:,?[ ]\d{4}\b)?+(?:[ T]\d\d?+:\d\d:\d\d(?:[.,]\d{1,9}+)?+)?+(?:[ ][A-Z]{3,4}\b)?+(?:[ ]\d{4}\b)?+
    | \d\d{3}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9}+)?+)?+(?:Z\b|[+-]\d\d:?\d\d)?+)?+  # 2005-06-17T07:07:00Z
    | [0-9a-fA-F][0-9a-fA-F](?:[:-][0-9a-fA-F]{2}){5}\b                                       # mac
    | [0-9a-fA-F](?<![:.].)[0-9a-fA-F]{0,3}+(?::{1,2}[0-9a-fA-F]{1,4}+){2,7}+(?![\w:.])       # ipv6
    | [A-Za-z](?<![_.-].)(?=[\w-]{0,63}[.\d-])[\w-]{0,62}+(?:\.[\w-]{1,63}+){0,9}+:\d{2,5}+\b # host:port
    | [A-Za-z0-9](?<![_.-].)[A-Za-z0-9-]{0,62}+\.(?:[A-Za-z0-9-]{1,63}+\.){1,8}
      (?:com|net|org|edu|gov|io|de|uk|cn|jp|tw|fr|it|ru|local|internal)\b                     # host
    | [/\\](?<![\w.~].)[\w.$@%+~=\#*-]++(?:[/\\][\w.$@%+~=\#*-]++)++[/\\]?+                   # path
    | 0[xX][0-9a-fA-F]++\b
    | [0-9a-fA-F](?:(?<=\d)\d{0,31}+[a-fA-F]|(?<=\D)[a-fA-F]{0,31}+\d)(?<=..)[0-9a-fA-F]{0,64}+\b(?<=[0-9a-fA-F]{6})  # hex
    | [-+\d](?:(?<=\d)|\d)\d*+(?:[.,:]\d++)*+(?:[eE][-+]?+\d++)?+                             # number, unit
      (?:[ ]?(?:%|[KMGT]i?B|[kKMGT]?[bB]ytes?|ms|us|ns|s|secs?|seconds?|mins?|minutes?|hours?|[KMGTkBG])(?!\w))?+(?![A-Za-z])
    )
  | \d{4,}+
    """,
    re.VERBOSE,
)
_TOKEN = re.compile(r"""(?:[^\s=:,;()\[\]{}"'<>|!?.]|\.(?!\.))++""")
_IDENTIFIER = re.compile(r"[\d._/\\@$#-]|[a-z][A-Z]")
_NAMING = frozenset(
    ["user", "host", "for", "from", "by", "of", "to", "id", "name", "node", "client", "server", "address", "rhost", "ruser", "path", "file",
     "class"]
)  # fmt: skip
_PLAIN = 5
_SPACE = (1 << 64) - 1


def mask(line: str) -> str:
    """The line with every typed value replaced by ``<*>``."""
    return _MASK.sub(_MARK, _head(line)).replace(_MARK, WILD)


def tokens_of(line: str) -> tuple[str, ...]:
    """The tokens of a line, neighbouring wildcards collapsed: what two lines of one template share before any hole is found."""
    return _tokenise(line)[0]


class _Context:
    """What has been seen at one hole: the fillers and the templates they came from."""

    __slots__ = ("fillers", "hole", "members")

    def __init__(self, filler: str, member: int) -> None:
        self.fillers = [filler]
        self.members = [member]
        self.hole = False


class Miner:
    """Finds the template of a line; numbers count from 0 in order of discovery; when templates merge, the oldest stands for all.

    Its whole state follows from `examples`, the lines that taught it something: adding them in order to a new miner gives it
    again. Past `LIMIT` templates, lines that fit none are counted as one template of all others.
    """

    LIMIT = 100_000

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.examples: list[str] = []
        self.merges = 0
        self.tokens: list[tuple[str, ...]] = []
        self._layout: list[tuple[str, ...]] = []
        self._known: dict[tuple[str, ...], int] = {}
        self._ids: dict[int, int] = {}
        self._contexts: dict[int, _Context | tuple[str, int]] = {}  # most are met once, and are the pair then
        self._hashes: dict[str, int] = {}

    def find(self, template: int) -> int:
        """The template into which `template` has merged (itself, if it has not)."""
        while self.parent[template] != template:
            self.parent[template] = template = self.parent[self.parent[template]]
        return template

    def add(self, line: str) -> int:
        """The number of the template of `line`, learned from it if it is new."""
        tokens, layout = _tokenise(line)
        found = self._known.get(tokens)
        if found is not None:
            return self.find(found)
        keys = self._keys(tokens)
        if (found := self._filled(tokens, keys)) is not None:
            return found
        if len(self.parent) >= self.LIMIT:
            return self.LIMIT - 1
        if len(self.parent) == self.LIMIT - 1:
            tokens, layout, keys = (WILD,), ("", ""), []
        template = len(self.parent)
        self.parent.append(template)
        self.examples.append(line[:LINE_LIMIT])
        self.tokens.append(tokens)
        self._layout.append(layout)
        return self._learn(tokens, layout, template, keys)

    def text(self, template: int, types: Sequence[str] = ()) -> str:
        """The template as text: wildcards as ``<*>`` or by `types`, one a hole, separators as in its first line."""
        root = self.find(template)
        layout = self._layout[root]
        names = iter(types)
        words = (token if token != WILD else f"<{next(names, '*')}>" for token in self.tokens[root])
        return ("".join(gap + word for gap, word in zip(layout, words, strict=False)) + layout[-1]).strip()

    def id(self, template: int) -> str:
        """The id of a template: 16 hex digits that follow from its skeleton alone."""
        return f"{_skeleton(self.tokens[self.find(template)]):016x}"

    def by_id(self, identity: str) -> int | None:
        """The number of the template that has, or had before it merged, this id; None if there is none."""
        template = self._ids.get(int(identity, 16))
        return None if template is None else self.find(template)

    def aliases(self) -> dict[int, list[str]]:
        """By number, the ids that a template had before it merged; only of templates that have merged."""
        found: dict[int, list[str]] = {}
        for identity, template in self._ids.items():
            root = self.find(template)
            if identity != _skeleton(self.tokens[root]):
                found.setdefault(root, []).append(f"{identity:016x}")
        return found

    def values(self, template: int, line: str) -> list[str] | None:
        """What `line` has in each hole of its template; None where the two do not fit."""
        return _fit(self.tokens[self.find(template)], *_raw(line))

    def without(self, gone: Set[int]) -> tuple[Miner, list[int]]:
        """A miner that has never seen these templates (roots), and the new number of each old one, -1 of those that are gone."""
        miner = Miner()
        places = [-1 if self.find(old) in gone else miner.add(line) for old, line in enumerate(self.examples)]
        return miner, places

    def _keys(self, tokens: tuple[str, ...]) -> list[int]:
        """The key of the context at each position."""
        if sum(token != WILD for token in tokens) < 2:
            return []
        hashes = [self._hash(token) * (2 * i + 1) for i, token in enumerate(tokens)]
        total = sum(hashes)
        return [((total - value) * 512 + i) & _SPACE for i, value in enumerate(hashes)]

    def _filled(self, tokens: tuple[str, ...], keys: list[int]) -> int | None:
        """The template with a hole where these tokens have one word more of many: nothing is learned from that, nor kept of it."""
        for token, key in zip(tokens, keys, strict=False):
            context = self._contexts.get(key)
            if token != WILD and isinstance(context, _Context) and context.hole and len(context.fillers) == _PLAIN:
                return self.find(context.members[0])
        return None

    def _learn(self, tokens: tuple[str, ...], layout: tuple[str, ...], template: int, keys: list[int]) -> int:
        self._known[tokens] = template
        self._ids[_skeleton(tokens)] = template
        for i, (token, key) in enumerate(zip(tokens, keys, strict=False)):
            if token == WILD:
                continue
            context = self._contexts.get(key)
            if context is None:
                self._contexts[key] = token, template
                if len(self._contexts) > _CONTEXT_LIMIT:
                    del self._contexts[next(iter(self._contexts))]
                continue
            if isinstance(context, tuple):
                context = self._contexts[key] = _Context(*context)
            if len(context.fillers) < _PLAIN and token not in context.fillers:
                context.fillers.append(token)
            context.members.append(template)
            if len(context.fillers) >= self._needed(context, tokens, layout, i):
                return self._merge(context, tokens, layout, i)
        return template

    def _merge(self, context: _Context, tokens: tuple[str, ...], layout: tuple[str, ...], hole: int) -> int:
        merged, merged_layout = _collapse((*tokens[:hole], WILD, *tokens[hole + 1 :]), layout)
        found = self._known.get(merged)
        roots = {self.find(member) for member in context.members}
        if found is not None:
            found = self.find(found)
            roots.add(found)
            merged, merged_layout = self.tokens[found], self._layout[found]
        root = min(roots)
        self.merges += len(roots) - 1
        for other in roots:
            self.parent[other] = root
        context.members, context.hole = [root], True
        self.tokens[root], self._layout[root] = merged, merged_layout
        return root if found is not None else self._learn(merged, merged_layout, root, self._keys(merged))

    @staticmethod
    def _needed(context: _Context, tokens: tuple[str, ...], layout: tuple[str, ...], i: int) -> int:
        if all(map(_IDENTIFIER.search, context.fillers)):
            return 2
        return 3 if "=" in layout[i] or (i and tokens[i - 1].lower() in _NAMING) else _PLAIN

    def _hash(self, token: str) -> int:
        value = self._hashes.get(token)
        if value is None:
            value = int.from_bytes(blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
            if len(self._hashes) > _CONTEXT_LIMIT:
                self._hashes.clear()
            self._hashes[token] = value
        return value


def _head(line: str) -> str:
    """The part of a line that is looked at: whole words up to the limit, for half a number may look like a word."""
    return line if len(line) <= LINE_LIMIT else (line[:LINE_LIMIT].rsplit(None, 1) or [""])[0]


def _tokenise(line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tokens of a line, neighbouring wildcards collapsed, and the separators before each and after the last."""
    masked = _MASK.sub(_MARK, _head(line))
    tokens: list[str] = []
    layout: list[str] = []
    end = 0
    for match in _TOKEN.finditer(masked):
        token = match.group()
        wild = _MARK in token
        if not (wild and tokens and tokens[-1] == WILD):
            if len(tokens) == TOKEN_LIMIT:
                break
            layout.append(masked[end : match.start()])
            tokens.append(WILD if wild else token)
        end = match.end()
    layout.append(masked[end:])
    return tuple(tokens), tuple(layout)


def _raw(line: str) -> tuple[list[str], list[tuple[int, int]], str]:
    """The tokens of a line as in `_tokenise`, but neighbouring wildcards apart; where each stands in the text; the text."""
    head = _head(line)
    spans = [match.span() for match in _MASK.finditer(head)]
    masked, end = [], 0
    for begin, after in spans:
        masked += [head[end:begin], _MARK * (after - begin)]  # as long as what it masks, so that places stay
        end = after
    text = "".join([*masked, head[end:]])
    tokens, places = [], []
    for match in _TOKEN.finditer(text):
        tokens.append(WILD if _MARK in match.group() else match.group())
        places.append(match.span())
    return tokens, places, head


def _fit(skeleton: tuple[str, ...], tokens: list[str], places: list[tuple[int, int]], text: str) -> list[str] | None:
    """The values in the holes of a skeleton: a hole takes tokens up to the next word of the skeleton, at least one."""
    values, at = [], 0
    for i, word in enumerate(skeleton):
        if at >= len(tokens):
            return None
        if word != WILD:
            if tokens[at] != word:
                return None
            at += 1
            continue
        first, after = at, skeleton[i + 1] if i + 1 < len(skeleton) else None
        at += 1
        while at < len(tokens) and tokens[at] != after and (after is not None or tokens[at] == WILD):
            at += 1
        values.append(text[places[first][0] : places[at - 1][1]])
    return values


def _skeleton(tokens: tuple[str, ...]) -> int:
    """A hash of the tokens."""
    text = "\x1f".join(tokens)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _collapse(tokens: tuple[str, ...], layout: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keep = [i for i, token in enumerate(tokens) if not (token == WILD and i and tokens[i - 1] == WILD)]
    return tuple(tokens[i] for i in keep), (*(layout[i] for i in keep), layout[-1])
