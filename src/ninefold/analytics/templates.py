r"""Log templates: typed masks, then hole-context merging. Streaming, deterministic, explainable, no similarity threshold.

1. *Mask*: one regular expression replaces dates, addresses, paths, ids and numbers. Its quantifiers are possessive or bounded,
   so a line costs time linear in its length.
2. *Tokenise* on white space and punctuation; a token that holds a masked value is a wildcard; neighbouring wildcards collapse.
   Lines with the same token tuple have the same template.
3. *Hole contexts*, only for a tuple never seen before: for each position, the tuple without it is a context. Once a context
   has collected enough different fillers (2 that look like identifiers, 3 after ``=`` or words like *user*, 5 plain words),
   that position becomes a wildcard and the templates merge; the ids of merged templates stay resolvable.
"""

from __future__ import annotations

import re
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


class _Context:
    """What has been seen at one hole: the fillers and the templates they came from."""

    __slots__ = ("fillers", "members")

    def __init__(self) -> None:
        self.fillers: dict[str, None] = {}
        self.members: list[int] = []


class Miner:
    """Finds the template of a line; ids count from 0 in order of discovery; when templates merge, the oldest id stands for all.

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
        self._contexts: dict[int, _Context] = {}
        self._hashes: dict[str, int] = {}

    def find(self, template: int) -> int:
        """The template into which `template` has merged (itself, if it has not)."""
        while self.parent[template] != template:
            self.parent[template] = template = self.parent[self.parent[template]]
        return template

    def add(self, line: str) -> int:
        """The id of the template of `line`, learned from it if it is new."""
        tokens, layout = _tokenise(line)
        found = self._known.get(tokens)
        if found is not None:
            return self.find(found)
        if len(self.parent) >= self.LIMIT:
            return self.LIMIT - 1
        if len(self.parent) == self.LIMIT - 1:
            tokens, layout = (WILD,), ("", "")
        template = len(self.parent)
        self.parent.append(template)
        self.examples.append(line[:LINE_LIMIT])
        self.tokens.append(tokens)
        self._layout.append(layout)
        return self._learn(tokens, layout, template)

    def text(self, template: int) -> str:
        """The template as text: wildcards as ``<*>``, separators as in its first line."""
        root = self.find(template)
        layout = self._layout[root]
        body = "".join(gap + token for gap, token in zip(layout, self.tokens[root], strict=False))
        return (body + layout[-1]).strip()

    def _learn(self, tokens: tuple[str, ...], layout: tuple[str, ...], template: int) -> int:
        self._known[tokens] = template
        if sum(token != WILD for token in tokens) < 2:
            return template
        hashes = [self._hash(token) * (2 * i + 1) for i, token in enumerate(tokens)]
        total = sum(hashes)
        for i, token in enumerate(tokens):
            if token == WILD:
                continue
            key = ((total - hashes[i]) * 512 + i) & _SPACE
            context = self._contexts.get(key)
            if context is None:
                context = self._contexts[key] = _Context()
                if len(self._contexts) > _CONTEXT_LIMIT:
                    del self._contexts[next(iter(self._contexts))]
            if len(context.fillers) < _PLAIN:
                context.fillers[token] = None
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
        context.members = [root]
        self.tokens[root], self._layout[root] = merged, merged_layout
        return root if found is not None else self._learn(merged, merged_layout, root)

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


def _collapse(tokens: tuple[str, ...], layout: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keep = [i for i, token in enumerate(tokens) if not (token == WILD and i and tokens[i - 1] == WILD)]
    return tuple(tokens[i] for i in keep), (*(layout[i] for i in keep), layout[-1])
