"""What a kill in the middle of an insert leaves in the files of the embedded engine, mended before it starts.

The engine writes the tokens of an insert into ``deduplication_logs`` before it gives the part its name. A kill between the two leaves the
token of rows that are not there, and the insert that is repeated for them would be passed over as known: acknowledged rows would be
lost. The log has a record for taking a token back (operation 2, as when a part is dropped); one is added for every token whose part
is missing. A server has the same gap when it is killed itself; its files are out of reach.
"""

from __future__ import annotations

import re
from pathlib import Path

from ninefold.ground.log import get

_PART = re.compile(r"(.+)_(\d+)_(\d+)_\d+(?:_\d+)?")
_LOG = re.compile(r"deduplication_log_(\d+)\.txt")
_ADDED, _TAKEN_BACK = "1", "2"
_log = get("store")


def take_back(folder: Path) -> int:
    """Take back the tokens of parts that are not there, in every table below the folder of a store whose engine does not run.

    Returns:
        How many tokens were taken back.

    Raises:
        OSError: a log cannot be read or written.
    """
    return sum(_mend(logs) for logs in folder.glob("store/*/*/deduplication_logs"))


def _mend(logs: Path) -> int:
    numbered = sorted((int(match[1]), path) for path in logs.iterdir() if (match := _LOG.fullmatch(path.name)))
    known: dict[str, str] = {}
    for _, path in numbered:
        for line in path.read_text().splitlines():
            match line.split("\t"):
                case [operation, part, token] if operation == _ADDED:
                    known[token] = part
                case [operation, _, token] if operation == _TAKEN_BACK:
                    known.pop(token, None)
    spans: dict[str, list[tuple[int, int]]] = {}
    for entry in logs.parent.iterdir():
        if match := _PART.fullmatch(entry.name):  # what is not finished or set aside has a word before the partition
            spans.setdefault(match[1], []).append((int(match[2]), int(match[3])))
    lost = [(part, token) for token, part in known.items() if not _there(part, spans)]
    if lost:
        with numbered[-1][1].open("a") as log:
            log.writelines(f"{_TAKEN_BACK}\t{part}\t{token}\n" for part, token in lost)
        _log.info("the tokens of %d parts that are not there were taken back", len({part for part, _ in lost}))
    return len(lost)


def _there(part: str, spans: dict[str, list[tuple[int, int]]]) -> bool:
    """Whether a part, or one it was merged into, is among the parts of its partition (first and last block)."""
    match = _PART.fullmatch(part)
    if match is None:
        return True
    return any(first <= int(match[2]) and int(match[3]) <= last for first, last in spans.get(match[1], ()))
