"""Historical SQL from people: read it before the engine does, and let through only reading of our own tables.

The embedded engine has no users and no grants, so there are three fences, each enough for most of what could go wrong:
`read` (one statement of a kind that only reads, in plain characters, without ``;`` anywhere), `check` (the engine's own syntax
tree may name only known functions and our tables), and the engine's ``readonly = 1`` with limits of time, memory and rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ninefold.ground.errors import BadData, Refused

_LENGTH_LIMIT = 100_000
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    |(?P<word>[A-Za-z_0-9][A-Za-z_0-9]*)
    |(?P<sign>[-+*/%<>=!,.:()\[\]{}?|;])""",
    re.DOTALL | re.VERBOSE,
)
_EXPLAIN = re.compile(r"EXPLAIN( (AST|SYNTAX|QUERY TREE|PLAN|PIPELINE|ESTIMATE))?( \w+ = \d+( ,)?)*", re.IGNORECASE)
_SHOW = re.compile(
    r"SHOW TABLES|(SHOW CREATE|DESCRIBE|DESC)( TABLE)? (?P<a>\w+( \. \w+)?)|SHOW COLUMNS FROM (?P<b>\w+( \. \w+)?)", re.IGNORECASE
)

# What the syntax tree may consist of; APPLY is not here because the tree does not show what it applies.
_NODES = re.compile(
    r"Select(WithUnion|IntersectExcept)?Query|ExpressionList|Literal|(Qualified)?Asterisk|(Table)?Identifier|Function|Subquery|WithElement"
    r"|Table(Join|Expression)|TablesInSelectQuery(Element)?|ArrayJoin|SampleRatio|OrderByElement|InterpolateElement"
    r"|Window(Definition|ListElement)"
    r"|Columns(RegexpMatcher|ListMatcher|TransformerList|ExceptTransformer|ReplaceTransformer(::Replacement)?)"
)
_TABLE_FUNCTIONS = frozenset(("numbers", "numbers_mt", "zeros", "generateseries", "generate_series", "values"))
_SYNTAX = frozenset(("lambda", "exists", "cast", "interval", "nothing"))
# Functions that read other tables, files or the server's own state, reach the network, write, or only wait.
_DENIED = re.compile(
    r"_.*|dict.*|joinget.*|file.*|sleep.*|get(?!subcolumn|sizeof).*|catboost.*|addressto.*|host.*|fqdn|reversedns.*|server.*|tcpport"
    r"|hascolumnintable|generateserialid|ai[_a-z]*|zookeeper.*|mergetree.*|globalvariable|transaction.*|timeseriesstore.*|region.*"
)
_NODE = re.compile(r" *([\w:]+)(?: (.*?))?(?: \(alias .*?\))?(?: \(children \d+\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that may run once its `select` ("" when there is none to look at) has passed `check`."""

    text: str
    select: str


def read(sql: str, database: str, tables: Collection[str]) -> Statement:
    """The one reading statement in `sql`, without comments and with every ``;`` inside quotes written as an escape.

    Raises:
        BadData: it is not SQL, with the place at which understanding stopped.
        Refused: it is SQL of a kind that is not allowed here.
    """
    if len(sql) > _LENGTH_LIMIT:
        raise Refused(f"the statement is longer than {_LENGTH_LIMIT} characters; shorten it")
    parts, tokens = _tokens(sql)
    text, words = "".join(parts).strip(), [token.upper() for token in tokens]
    if not words:
        raise BadData("there is no SQL statement; write for example SELECT count() FROM log", "0")
    for word, what in (("SETTINGS", "SETTINGS"), ("INTO", "INTO")):
        if word in words:
            raise Refused(f"{what} is not allowed in a query here; leave it out (a column of that name goes in double quotes)")
    if len(words) > 2 and words[-2] == "FORMAT" and words[-1].isidentifier():
        raise Refused("FORMAT is not allowed in a query here; choose the format with the Accept header")
    if words[0] in ("SELECT", "WITH", "(", "FROM"):
        return Statement(text, text)
    line = " ".join(tokens)
    if shown := _SHOW.fullmatch(line):
        name = (shown["a"] or shown["b"] or next(iter(tables))).replace(" ", "")
        if name.removeprefix(f"{database}.") not in tables:
            raise Refused(f"{name} is not a table of this store; its tables are {', '.join(sorted(tables))}")
        return Statement(text, "")
    if words[0] == "EXPLAIN":
        start = next((i for i, word in enumerate(words) if word in ("SELECT", "WITH", "(")), 0)
        if start and _EXPLAIN.fullmatch(" ".join(tokens[:start])):
            return Statement(text, _from_token(parts, start))
        raise Refused("only EXPLAIN of a SELECT is allowed here")
    raise Refused(f"{words[0]} is not allowed here; a query may only read: SELECT, WITH, SHOW TABLES, DESCRIBE or EXPLAIN")


def check(tree: str, database: str, others: Collection[str], functions: Collection[str], combinators: Sequence[str]) -> None:
    """Look at the engine's syntax tree (the lines of ``EXPLAIN AST``) of a SELECT.

    Args:
        tree: the lines.
        database: ours.
        others: lower-case names of all other databases.
        functions: lower-case names of the functions that exist.
        combinators: lower-case suffixes of aggregate functions.

    Raises:
        Refused: it names a table, a function or a construction that is not allowed here.
    """
    nodes = [_node(line) for line in tree.split("\n") if line.strip()]
    if not nodes or nodes[0][0] != "SelectWithUnionQuery":
        raise Refused("only a SELECT is allowed here")
    before = ""
    for kind, name in nodes:
        if not _NODES.fullmatch(kind):
            raise Refused(f"{kind or 'an unknown construction'} is not allowed in a query here; rewrite it without")
        if kind == "TableIdentifier":
            _own(name, database)
        elif kind == "Identifier" and name.partition(".")[0].lower() in others:
            raise Refused(f"{name} is not in this store; only the tables of the database {database} may be read")
        elif kind == "Function" and before == "TableExpression":
            if name.lower() not in _TABLE_FUNCTIONS:
                raise Refused(f"the table function {name} is not allowed here; only tables of this store may be read")
        elif kind == "Function" and not _known(name.lower(), functions, combinators):
            raise Refused(f"the function {name} is not allowed here or does not exist")
        before = kind


def _tokens(sql: str) -> tuple[list[str], list[str]]:
    """The pieces of `sql` (comments and spaces as one space) and, of them, the tokens; a final ``;`` is left out."""
    pieces: list[str] = []
    at, ended = 0, False
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None or (sql.startswith("/*", at) and match["space"] is None):
            raise BadData(f"the character {sql[at]!r} cannot be understood here; quote it or leave it out", str(at))
        at = match.end()
        piece = match[0]
        if match["space"] is not None:
            pieces.append(" " if pieces else "")
            continue
        if ended:
            raise Refused("only one statement at a time is allowed; leave out everything behind the first ;")
        if piece == ";":
            ended = True
            continue
        if "\0" in piece:
            raise BadData("a zero byte cannot be part of a query; leave it out", str(match.start()))
        pieces.append(_escaped(piece) if match["quoted"] is not None else piece)
    return pieces, [piece for piece in pieces if piece.strip()]


def _escaped(quoted: str) -> str:
    """A quoted text with the same value and no ``;`` in it, so that no reading of it can end the statement."""
    if ";" not in quoted:
        return quoted
    return re.sub(r"\\.|;", lambda match: {";": r"\x3B", r"\;": r"\\\x3B"}.get(match[0], match[0]), quoted, flags=re.DOTALL)


def _from_token(pieces: Sequence[str], start: int) -> str:
    """The text from the token number `start` on."""
    seen = -1
    for i, piece in enumerate(pieces):
        seen += bool(piece.strip())
        if seen == start:
            return "".join(pieces[i:])
    return ""


def _node(line: str) -> tuple[str, str]:
    """Kind and name of one line; a kind of "" when the line is not one of the tree's."""
    match = _NODE.fullmatch(line)
    return (match[1], match[2] or "") if match else ("", line)


def _own(name: str, database: str) -> None:
    """A table name without a database is one of ours or of the query itself, because our database is the current one."""
    parts = name.split(".")
    if not all(re.fullmatch(r"\w+", part) for part in parts) or len(parts) > 2 or (len(parts) == 2 and parts[0] != database):
        raise Refused(f"{name} is not in this store; only the tables of the database {database} may be read")


def _known(name: str, functions: Collection[str], combinators: Iterable[str]) -> bool:
    """Whether a lower-case function name is known and harmless, with or without aggregate combinators."""
    if name in _SYNTAX:
        return True
    if name in functions:
        return not _DENIED.fullmatch(name)
    return any(name.endswith(suffix) and _known(name[: -len(suffix)], functions, combinators) for suffix in combinators)
