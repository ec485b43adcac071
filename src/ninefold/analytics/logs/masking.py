r"""Secrets and personal data in log lines: found and replaced before anything is kept, such as ``password=<secret>``.

One regular expression over a whole column, without captures and linear in its length (RE2), says which texts may hold anything; only
those are looked at by the exact rules, so that a plain line costs a scan of its bytes. What is replaced:

* *secrets*: what follows ``password=``, ``token:``, ``--api-key`` and their like, ``Authorization`` and ``Cookie`` headers, ``Bearer``
  tokens, passwords in addresses, JSON web tokens, private keys in PEM, keys of well-known services by their form, and attributes whose
  name tells that they are one of these;
* *personal*: e-mail addresses, numbers of payment cards (issuer's prefix, length and Luhn's check digit, ISO/IEC 7812-1), IBANs
  (ISO 13616 and its modulo 97); IP addresses if asked for;
* own patterns: the group ``secret`` of a match, or all of it.

A masked line is masked to itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ninefold.model.signal import MAP

LEVELS = ("off", "secrets", "personal")
SECRET = "<secret>"  # noqa: S105 - what takes its place
_NAMES = (
    r"passw(?:or)?d|passwd|passphrase|secret|token|api[-_. ]?key|access[-_. ]?key|private[-_. ]?key|secret[-_. ]?key|credentials?|signature"
)
_TAIL = r"(?:[-_]?(?:id|key|value|hash|text|plain|base64|b64|\d{1,2}))?"
_QUOTE = r"(?:\\{0,8}[\"'])?"
_SCHEME = r"(?:(?:basic|bearer|digest|negotiate|ntlm|token|apikey|aws4-hmac-sha256)\s{1,3})?"
_VALUE = r"""(?:\\+"(?:[^"\\]|\\(?!")[^"])*+(?:\\*")?|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[^\s,;&"'<>{}()\[\]]++)"""
_FORMS = (
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*+)?", r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{16}",
    r"gh[pousr]_[A-Za-z0-9]{30,255}", r"github_pat_[A-Za-z0-9_]{30,255}", r"glpat-[A-Za-z0-9_-]{20,255}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",
    r"AIza[A-Za-z0-9_-]{35}", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}", r"sk-[A-Za-z0-9_-]{20,255}", r"npm_[A-Za-z0-9]{36}",
    r"n9_[A-Za-z0-9_-]{20,255}",
)  # fmt: skip
_HINTS = (
    r"eyJ[A-Za-z0-9_-]{8}|(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{4}|gh[pousr]_[A-Za-z0-9]{4}|github_pat_|glpat-|xox[abeoprs]-|AIza|"
    r"[sr]k_(?:live|test)_|sk-[A-Za-z0-9_-]{8}|npm_[A-Za-z0-9]{4}|n9_"
)
_PEM = r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY"
_EMAIL = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}"
_CARD = r"[3-6](?:[ -]?\d){12,18}|2[2-7](?:[ -]?\d){14}"
_IBAN = r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"
_IP = r"(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}"
_TELLING = (
    r"(?i)(?:^|[^a-z])(?:pass|pwd)$|passw(?:or)?d|passphrase|secret|(?:^|[^a-z])token$|[a-z]token$|api[-_.]?key|access[-_.]?key|"
    r"private[-_.]?key|authorization|credential|cookie"
)
Exact = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]
"""A hint that RE2 understands and that is found wherever the exact pattern is; the pattern; what takes a match's place."""


def _exact(pattern: str) -> re.Pattern[str]:
    """A rule reads letters, digits and white space as its hint does: those of ASCII."""
    return re.compile(pattern, re.ASCII)


def _after(match: re.Match[str]) -> str:
    """What leads to the secret stays, and so does a quote around it."""
    lead, value = match.group(1), match.group(2)
    if value == SECRET or not value.strip("\\\"'"):
        return match.group()
    quote = re.match(r"\\*[\"']?", value)
    around = quote.group() if quote and quote.group()[-1:] in ("'", '"') else ""
    return f"{lead}{around}{SECRET}{around if around and value.endswith(around[-1]) and len(value) > len(around) else ''}"


def _always(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


_SECRETS: tuple[Rule, ...] = (
    (_PEM, _exact(_PEM + r"-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"), _always(SECRET)),
    (
        rf"(?i)(?:authorization|set-cookie|cookie){_QUOTE}\s{{0,3}}[:=]",
        _exact(rf"(?i)((?:authorization|set-cookie|cookie){_QUOTE}\s{{0,3}}[:=]\s{{0,3}}{_QUOTE}{_SCHEME})([^\"'\r\n]++)"), _after,
    ),
    (r"(?i)bearer\s", _exact(r"(?i)(\bbearer\s{1,3})(?=[A-Za-z._~+/=-]*\d)([A-Za-z0-9._~+/=-]{8,}+)"), _after),
    (
        rf"(?i)(?:{_NAMES}){_TAIL}{_QUOTE}\s{{0,3}}(?:=|:)",
        _exact(rf"(?i)((?:{_NAMES}){_TAIL}{_QUOTE}\s{{0,3}}(?:=>|:=|=|:)\s{{0,3}})({_VALUE})"), _after,
    ),
    (
        rf"(?i)-(?:{_NAMES}){_TAIL}\s",
        _exact(rf"(?i)((?<!\w)--?(?:[a-z]{{1,20}}-)?(?:{_NAMES}){_TAIL}\s{{1,3}})({_VALUE})"), _after,
    ),
    (
        r"(?i)(?:pwd|(?:^|[^a-z])pass)[\"']?\s{0,3}[=:]",
        _exact(r"(?i)(\b(?:\w*pwd|pass)[\"']?\s{0,3}[=:]\s{0,3})(?!/)(" + _VALUE + ")"), _after,
    ),
    (r"(?i)identified\s", _exact(rf"(?i)(\bidentified\s+(?:with\s+\S+\s+)?by\s+(?:password\s+)?)({_VALUE})"), _after),
    (r"://[^\s/@]*:[^\s/@]*@", _exact(r"(://[^\s:/@]{0,255}:)([^\s/@]++)(?=@)"), _after),
    (_HINTS, _exact(r"(?<![A-Za-z0-9])(?:" + "|".join(_FORMS) + r")(?![A-Za-z0-9])"), _always(SECRET)),
)  # fmt: skip


def _card(match: re.Match[str]) -> str:
    return "<card>" if is_card(re.sub("[ -]", "", match.group())) else match.group()


def _iban(match: re.Match[str]) -> str:
    return "<iban>" if is_iban(match.group().replace(" ", "")) else match.group()


_PERSONAL: tuple[Rule, ...] = (
    (r"@[A-Za-z0-9-]{1,63}\.", _exact(rf"(?<![A-Za-z0-9._%+-]){_EMAIL}"), _always("<email>")),
    (r"(?:^|[^\w.-])(?:[3-6]|2[2-7])(?:[ -]?\d){11}", _exact(rf"(?<![\w.-])(?:{_CARD})(?![\w-]|\.\d)"), _card),
    (r"[A-Z]{2}\d{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}", _exact(rf"(?<![A-Za-z0-9]){_IBAN}(?![A-Za-z0-9])"), _iban),
)
_ADDRESS: Rule = (_IP, _exact(rf"(?<![\w.:])(?:{_IP})(?![\w:]|\.\d)"), _always("<ip>"))


def is_card(digits: str) -> bool:
    """Whether digits are a number that a card may have: prefix and length of an issuer, and Luhn's check digit."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    issued = (
        (digits[0] == "4" and length in (13, 16, 19))
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720 or 3528 <= four <= 3589))
        or (length == 15 and two in (34, 37))
        or (length == 14 and two in (30, 36, 38, 39))
        or (16 <= length <= 19 and (four == 6011 or two in (62, 65)))
    )
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return issued and (doubled + sum(map(int, digits[::-2]))) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether a text has an IBAN's length and check digits."""
    return 15 <= len(text) <= 34 and int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


class Masking:
    """Replaces in log rows what must not be kept.

    Args:
        level: off, secrets, or personal (which means secrets too).
        addresses: IP addresses too.
        patterns: own regular expressions; the group named ``secret`` is replaced, or the whole match where there is none. They count on
            every level but off.
    """

    def __init__(self, level: str = "secrets", *, addresses: bool = False, patterns: Sequence[str] = ()) -> None:
        self._names = level != "off"
        groups = [_SECRETS] if level != "off" else []
        if level == "personal":
            groups += [(rule,) for rule in (*_PERSONAL, *([_ADDRESS] if addresses else []))]
        self._groups = [("|".join(f"(?:{hint})" for hint, _, _ in rules), [rule[1:] for rule in rules]) for rules in groups]
        for pattern in patterns if level != "off" else ():
            self._groups.append((pattern if _simple(pattern) else "", [(re.compile(pattern), _own)]))

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Log rows without what must not be kept: in the body, the attributes and the resource."""
        if not self._groups:
            return rows
        before = {name: rows.column(name) for name in ("body", "attributes", "resource")}
        after = {name: self.texts(column) if name == "body" else self._map(column) for name, column in before.items()}
        if all(after[name] is column for name, column in before.items()):
            return rows
        return pa.RecordBatch.from_arrays([after.get(name, rows.column(name)) for name in rows.schema.names], schema=rows.schema)

    def text(self, text: str) -> str:
        """One text without what must not be kept."""
        for _, rules in self._groups:
            text = _masked(text, rules)
        return text

    def texts(self, column: pa.Array) -> pa.Array:
        """A text column likewise; the very same object where there is nothing to replace."""
        for hint, rules in self._groups if len(column) else ():
            hit = pc.match_substring_regex(column, hint) if hint else pa.array([True] * len(column))
            if pc.any(hit).as_py():
                column = pc.replace_with_mask(
                    column, hit, pa.array([_masked(t, rules) for t in column.filter(hit).to_pylist()], column.type)
                )
        return column

    def _map(self, column: pa.Array) -> pa.Array:
        offsets = column.offsets
        first, last = offsets[0].as_py(), offsets[-1].as_py()
        if first == last:
            return column
        names, items = column.keys.slice(first, last - first), column.items.slice(first, last - first)
        coded, named = items.dictionary_encode(), names.dictionary_encode()  # most are repeated
        known = coded.dictionary
        values = self.texts(known)
        masked = items if values is known else values.take(coded.indices)
        telling = pc.match_substring_regex(named.dictionary, _TELLING)
        if self._names and pc.any(telling).as_py():
            masked = pc.if_else(pc.and_(telling.take(named.indices), pc.not_equal(items, "")), SECRET, masked)
        if masked is items:
            return column
        return pa.MapArray.from_arrays(pc.subtract(offsets, first), names, masked, MAP)


def _masked(text: str, rules: Sequence[Exact]) -> str:
    for pattern, replace in rules:
        text = pattern.sub(replace, text)
    return text


def _simple(pattern: str) -> bool:
    """Whether RE2 understands a pattern; where not, every line is looked at."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


def _own(match: re.Match[str]) -> str:
    named: dict[str, Any] = match.groupdict()
    if named.get("secret") is None:
        return SECRET
    begin, end = match.span("secret")
    return match.group()[: begin - match.start()] + SECRET + match.group()[end - match.start() :]
