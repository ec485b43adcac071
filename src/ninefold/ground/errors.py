"""The errors of Ninefold: six kinds, each telling the caller what to do next.

Every message is one sentence: what happened, to what, what to do.
"""

from __future__ import annotations

from typing import Any


class NinefoldError(Exception):
    """The root of all errors Ninefold raises on purpose."""


class ConfigError(NinefoldError):
    """The configuration is wrong: refuse to start; the message names the path of the key."""


class BadData(NinefoldError):
    """The input cannot be understood: quarantine it and go on.

    `where` names the field or the byte offset at which understanding stopped.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"{reason} (at {where})" if where else reason)
        self.reason = reason
        self.where = where


class TooLarge(BadData):
    """The input exceeds a size limit; sending it again in smaller pieces can succeed."""


class Unavailable(NinefoldError):
    """Something needed is not there right now: retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(NinefoldError):
    """A request left and no answer came back: it may have been carried out. Only a person or a check may decide to repeat it."""


class Refused(NinefoldError):
    """The request is understood and will not be carried out: do not retry.

    `carried_out` says that it was all the same, or in part, as with a command that fails at its end; `answer` is what there is to
    show for it then, in the form of a success.
    """

    def __init__(self, message: str = "", *, carried_out: bool = False, answer: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.carried_out = carried_out
        self.answer = answer


class NotFound(Refused):
    """The named thing does not exist."""


class Conflict(NinefoldError):
    """Somebody else changed the record first: reread it and decide again."""
