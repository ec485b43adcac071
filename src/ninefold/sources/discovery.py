"""Which targets there are to scrape: named ones, those in files (Prometheus' file_sd), those DNS knows; and rules that change them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import Field

from ninefold.ground.errors import BadData, ConfigError, Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Strict

_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\d+))")
_FILE_BYTES = 32 << 20

Labels = dict[str, str]
_log = get("scrape")


class Rule(Strict):
    """A relabelling rule, as in Prometheus."""

    action: Literal["keep", "drop", "replace"] = Field("replace", description="Keep or drop what matches, or set a label.")
    source_labels: list[str] = Field(default_factory=list, description="The labels whose values are joined and matched.")
    separator: str = Field(";", description="What joins them.")
    regex: str = Field("(.*)", description="A regular expression that must match all of it.")
    target_label: str = Field("", description="For replace: the label to set.")
    replacement: str = Field("$1", description="For replace: its value; $1 is the first group. An empty value removes the label.")

    @cached_property
    def compiled(self) -> tuple[re.Pattern[str], str]:
        """The expression, and the replacement as Python spells it."""
        template = _REFERENCE.sub(lambda match: rf"\g<{match[1] or match[2]}>", self.replacement.replace("\\", r"\\"))
        return re.compile(self.regex, re.S), template

    def model_post_init(self, _: Any) -> None:
        """Refuse an expression that is none, before anything starts.

        Raises:
            ValueError: the expression, or a reference to a group in the replacement, is wrong.
        """
        try:
            pattern = self.compiled[0]
        except re.error as error:
            raise ValueError(f"the regex {self.regex!r} cannot be used: {error}") from error
        if self.action != "replace":
            return
        groups = {str(number) for number in range(pattern.groups + 1)} | set(pattern.groupindex)
        missing = [one or other for one, other in _REFERENCE.findall(self.replacement) if (one or other) not in groups]
        if missing or not self.target_label:
            raise ValueError(
                f"replace needs a target_label, and the regex has no group {missing}" if missing else "replace needs a target_label"
            )


def relabel(labels: Labels, rules: Sequence[Rule]) -> Labels | None:
    """The labels after all rules; None when one drops them."""
    found = dict(labels)
    for rule in rules:
        pattern, template = rule.compiled
        match = pattern.fullmatch(rule.separator.join(found.get(name, "") for name in rule.source_labels))
        if rule.action == "replace":
            if match is not None:
                found[rule.target_label] = match.expand(template)
        elif (match is None) == (rule.action == "keep"):
            return None
    return {name: value for name, value in found.items() if value}


class Dns(Strict):
    """Targets that DNS knows."""

    name: str = Field(description="The name to ask for.")
    type: Literal["A", "AAAA", "SRV"] = Field("SRV", description="What to ask for; an SRV answer brings its port.")
    port: int = Field(0, ge=0, le=65535, description="The port of A and AAAA answers.")
    server: str = Field("", description="Address of the server to ask, with :port if it is not 53; the system's by default.")


class Groups:
    """Target groups in files, read again when they change. A file that cannot be read keeps what it said last."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._files: dict[str, tuple[tuple[int, int, int], list[Labels]]] = {}

    def targets(self) -> Iterator[Labels]:
        """The targets of all files."""
        paths = sorted({path for pattern in self._patterns for path in glob(pattern, recursive=True)})
        self._files = {path: found for path, found in self._files.items() if path in paths}
        for path in paths:
            try:
                status = Path(path).stat()
                state = status.st_mtime_ns, status.st_size, status.st_ino
                if self._files.get(path, ((0, 0, 0), []))[0] != state:
                    self._files[path] = state, list(read_groups(Path(path)))
            except (OSError, BadData) as error:
                _log.warning("the targets in %s cannot be read and stay as they were: %s", path, error)
            yield from self._files.get(path, ((0, 0, 0), []))[1]


def read_groups(path: Path) -> Iterator[Labels]:
    """The targets in a file: a list of ``{targets: [address, …], labels: {…}}`` in JSON or YAML.

    Raises:
        OSError: it cannot be read.
        BadData: it is something else.
    """
    if path.stat().st_size > _FILE_BYTES:
        raise BadData(f"the file is larger than {_FILE_BYTES} bytes")
    try:
        groups = orjson.loads(path.read_bytes()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    except (orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadData(f"the file is neither JSON nor YAML: {error}") from None
    try:
        for group in groups or []:
            labels = {str(name): str(value) for name, value in (group.get("labels") or {}).items()}
            for target in group["targets"]:
                yield {**labels, "__address__": str(target), "__meta_filepath": str(path)}
    except (TypeError, KeyError, AttributeError):
        raise BadData("the file is not a list of {targets, labels}") from None


async def ask_dns(question: Dns) -> list[Labels]:
    """The targets that DNS knows under a name.

    Raises:
        ConfigError: dnspython is not installed.
        Unavailable: there is no answer.
    """
    try:
        import dns.asyncresolver
        import dns.exception
    except ImportError as error:
        raise ConfigError("discovery by DNS needs dnspython; install ninefold[dns]") from error
    resolver = dns.asyncresolver.Resolver(configure=not question.server)
    if question.server:
        host, _, port = question.server.rpartition(":") if question.server.rpartition(":")[2].isdigit() else (question.server, "", "53")
        resolver.nameservers, resolver.port = [host.strip("[]")], int(port)
    try:
        answer = await resolver.resolve(question.name, question.type, lifetime=10)
    except dns.exception.DNSException as error:
        raise Unavailable(f"DNS has no {question.type} answer for {question.name}: {error}") from error
    found = []
    for record in answer:
        at = question.port
        if question.type == "SRV":
            host, at = str(record.target).rstrip("."), record.port
        else:
            host = f"[{record.address}]" if question.type == "AAAA" else record.address
        found.append({"__address__": f"{host}:{at}" if at else host, "__meta_dns_name": question.name})
    return found
