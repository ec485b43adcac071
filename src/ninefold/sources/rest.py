"""Any REST API by polling: GET or POST, JSON answers, a cursor, pages. Presets know Redmine, Jira, ServiceNow, GitHub and GitLab.

```yaml
sources:
  desk:
    type: rest
    preset: redmine
    url: https://redmine.example.org
    secret_headers: {X-Redmine-API-Key: "${REDMINE_KEY}"}
  shop:
    type: rest
    url: https://shop.example.org/api/orders
    params: {since: "{cursor}", limit: "200"}
    records: data[]
    cursor: updated_at
    paging: next
    next: links.next
    shape: events
```

**What is asked.** `method` `url` + `path` with `params` and, for POST, `body`. ``{cursor}`` in any of them is the cursor; a parameter
that holds it is left out while there is none (set `start` to have one). ``{repository}`` in a path is the setting of that name.

**The cursor** is the largest value of the JMESPath `cursor` over the records (or of the header named by `cursor_header`); times compare
as times, written in `cursor_format` (strftime, UTC) or as they came. Ask with "equal or later": records that were delivered already,
unchanged, are left out, so several records of one second are never lost. `back_s` goes back further, for clocks that differ and
records that become visible late.

**Pages** (`paging`): `link` follows the header ``Link: <…>; rel="next"``; `next` follows the JMESPath `next`, an address or a token sent
as `next_param`; `page` counts `page_param` up and `offset` counts `offset_param` up by records, both until a page is shorter than
`page_size`. Pages are handed over one by one; the cursor moves at the end of the round, and after a crash the round goes on at its page.
A next address on another host is not followed. While pages are counted, a record that changes moves the others: where the
answer is ordered by the cursor, say `ascending`, and each page is asked for from the last one's cursor on. A page that is gone
(404, 410) begins the round anew after `every_s`; after any other refusal it is asked for again, less and less often.

**Repeats.** A record that changed comes again, as it is now; after a crash none does, because the place is kept with each page. What a
record becomes is said under [rows](rows.md). Jira's `updated` has minutes only and the user's time zone: give the
user UTC. The first round reads everything the question finds: set `start` to begin later. Where
the product can push (webhooks), prefer that: it is faster and costs it less.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import Field, model_validator

from ninefold.ground.clock import SECOND, iso, now
from ninefold.ground.errors import BadData, ConfigError, NotFound, Refused, Unavailable
from ninefold.model.signal import Batch, quarantine
from ninefold.plugin import Lent
from ninefold.sources.http_client import Http, HttpConfig
from ninefold.sources.polling import Page, PollConfig, Poller
from ninefold.sources.reading import text_of, time_of
from ninefold.sources.rest_presets import PRESETS
from ninefold.sources.rows import Rows, RowsConfig, mark

_LINK = re.compile(r"<([^>]*)>([^,]*)")
_NEXT = re.compile(r"""rel\s*=\s*["']?[^"';]*\bnext\b""")
_PAGES = 10_000
_OVERLAP = 10
"""Pages among records of equal cursor overlap by this part."""
_LONGEST_ASKED_S = 3600.0
_REMEMBERED = 2_500
"""How many records of a round are known again from its beginning and from its end: the newest are at one of them."""
_TIME_FIRST = 31_536_000
"""Numbers from here on may be epoch times; smaller ones are numbers."""


class _Api(Http):
    """Tells what is not there from what is refused, and a limit of rate said as 403 from either."""

    def _error(self, method: str, url: str | httpx.URL, response: httpx.Response, body: bytes) -> Exception:
        error, after = super()._error(method, url, response, body), response.headers.get("retry-after", "")
        if response.status_code in (404, 410):
            return NotFound(str(error))
        if response.status_code == 403 and (after or response.headers.get("x-ratelimit-remaining") == "0"):
            reset = response.headers.get("x-ratelimit-reset", "")  # when, as an epoch time
            wait = float(after) if after.isdigit() else float(reset) - now() / SECOND if reset.isdigit() else 60.0
            return Unavailable(str(error), min(max(wait, 1.0), _LONGEST_ASKED_S))
        return error


class Rest(Poller):
    """Records of a REST API, polled with a cursor."""

    kind = "rest"
    title = "REST API"
    signals = frozenset(("metric", "log", "event"))

    class Config(PollConfig, RowsConfig, HttpConfig):
        """What to ask, how its pages and its cursor work, and what the records become."""

        preset: str = Field("", description="One of the presets: " + ", ".join(PRESETS) + ".")
        url: str = Field(pattern=r"^https?://", description="The address; with a preset, the product's.")
        path: str = Field("", description="What follows the address.")
        repository: str = Field("", description="What ``{repository}`` in the path stands for: owner/name, or a GitLab project's number.")
        method: Literal["GET", "POST"] = Field("GET", description="The method; both must only read.")
        headers: dict[str, str] = Field(default_factory=dict, description="Headers that are no secret.")
        params: dict[str, str] = Field(default_factory=dict, description="Query parameters.")
        body: Any = Field(None, description="JSON to send with POST.")
        records: str = Field("@", description="JMESPath to the list of records, or the one, in the answer.")
        cursor: str = Field("", description="JMESPath to the growing value within a record.")
        cursor_header: str = Field("", description="The answer's header that is the cursor instead.")
        cursor_format: str = Field("", description="How a time is written as cursor (strftime, UTC).")
        start: str = Field("", description="The cursor's first value.")
        back_s: float = Field(0.0, ge=0, description="How much earlier than the cursor to ask, when it is a time.")
        paging: Literal["none", "link", "next", "page", "offset"] = Field("none", description="How pages follow each other.")
        next: str = Field("", description="JMESPath to the next page's address or token.")
        next_param: str = Field("", description="The parameter a token is sent as.")
        page_param: str = Field("page", description="The parameter that counts pages.")
        page_start: int = Field(1, ge=0, description="The first page's number.")
        offset_param: str = Field("offset", description="The parameter that counts records.")
        page_size: int = Field(100, ge=1, description="The records of a full page.")
        ascending: bool = Field(
            False,
            description="The answer holds what is at the cursor or later, ordered by it: `page` and `offset` go on from the page's last"
            " cursor, and records that change meanwhile move no other away.",
        )

        @model_validator(mode="before")
        @classmethod
        def _preset(cls, given: Any) -> Any:
            if not isinstance(given, dict) or not given.get("preset"):
                return given
            if given["preset"] not in PRESETS:
                raise ValueError(f"preset {given['preset']!r} is unknown; there are {', '.join(PRESETS)}")
            preset = PRESETS[given["preset"]]
            merged = {key: preset[key] | given.get(key, {}) for key in ("params", "headers") if key in preset}
            return preset | given | merged

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._rows = Rows(config, name)
        self._http = _Api(config.preset or self.title, f"sources.{name}", config, config.timeout_s)
        self._records, self._cursor, self._next = (_compile(name, key, getattr(config, key)) for key in ("records", "cursor", "next"))

    async def page(self, position: dict[str, Any]) -> Page:
        """The next page of records."""
        following: dict[str, Any] | None = position.get("next")
        method, url, request = self._request(position.get("cursor") or self.config.start, following)
        try:
            document, response = await self._http.ask(method, url, **request)
        except NotFound:
            if following is None:
                raise
            return Page((), {key: value for key, value in position.items() if key != "next"})  # the page is gone: a new round, later
        found = self._records.search(document)
        records = found if isinstance(found, list) else [found] if found is not None else []
        batches, seen = self._fresh(records, position)
        top = self._top(records, response, position.get("top") or position.get("cursor"))
        page = self._following(document, response, records, following, position)
        if page is not None:
            return Page(batches, self._kept(position.get("cursor"), top, position.get("seen", []), seen, page), True)
        return Page(batches, self._kept(top, None, seen or position.get("seen", []), [], None))

    def forget(self, batches: Any) -> None:
        """Told which batches were not kept."""
        self._rows.forget(batches)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _request(self, cursor: Any, following: dict[str, Any] | None) -> tuple[str, httpx.URL, dict[str, Any]]:
        config = self.config
        if following and "url" in following:
            return config.method, httpx.URL(following["url"]), {"headers": config.headers}
        written = self._written(following["from"], 0) if following and "from" in following else self._written(cursor, self.config.back_s)
        filled = {key: value.replace("{cursor}", written) for key, value in config.params.items() if written or "{cursor}" not in value}
        path = config.path.replace("{repository}", config.repository if config.preset.startswith("github") else _segment(config.repository))
        request: dict[str, Any] = {
            "params": filled | {key: str(value) for key, value in (following or {}).get("params", {}).items()},
            "headers": {key: value.replace("{cursor}", written) for key, value in config.headers.items()},
        }
        if config.method == "POST" and config.body is not None:
            request["json"] = _filled(config.body, written)
        return config.method, httpx.URL((config.url.rstrip("/") + path if path else config.url).replace("{cursor}", written)), request

    def _written(self, cursor: Any, back_s: float) -> str:
        """The cursor as it is sent."""
        time = _time(cursor) if self.config.cursor_format or back_s else None
        if time is None:
            return text_of(cursor)
        time -= int(back_s * SECOND)
        moment = datetime.fromtimestamp(time // SECOND, UTC)
        return moment.strftime(self.config.cursor_format) if self.config.cursor_format else iso(time)

    def _fresh(self, records: list[Any], position: dict[str, Any]) -> tuple[list[Batch], list[str]]:
        """The batches of the records that were not delivered before, and the marks of all records of this round so far."""
        known, seen = set(position.get("seen", ())) | set(position.get("round", ())), list(position.get("round", ()))
        fresh, bad = [], []
        for place, record in enumerate(records):
            if not isinstance(record, dict):
                bad.append(("a record is a JSON object; this one is not", f"records[{place}]", text_of(record).encode()))
                continue
            try:
                own = mark(record)
            except BadData as error:
                bad.append((error.reason, f"records[{place}]", text_of(list(record)).encode()))
                continue
            if self.config.shape != "metrics":  # a measurement that is the same as before is one more
                seen.append(own)
                if own in known:
                    continue
                known.add(own)
            fresh.append(record)
        received = now()
        batches = self._rows.batches(fresh, received)
        if bad:
            batches = [*batches, quarantine(self.name, received, "event", "rest", bad)]
        marks = list(dict.fromkeys(seen))
        return batches, marks if len(marks) <= 2 * _REMEMBERED else marks[:_REMEMBERED] + marks[-_REMEMBERED:]

    def _top(self, records: list[Any], response: httpx.Response, top: Any) -> Any:
        """The largest cursor so far."""
        if self.config.cursor_header:
            return response.headers.get(self.config.cursor_header) or top
        for record in records if self.config.cursor else ():
            value = self._cursor.search(record)
            if value is not None and (top is None or _order(value) > _order(top)):
                top = value
        return top

    def _following(
        self, document: Any, response: httpx.Response, records: list[Any], following: dict[str, Any] | None, position: dict[str, Any]
    ) -> dict[str, Any] | None:
        """How the next page is asked for, None when this was the last."""
        config, number, count = self.config, (following or {}).get("number", 1), len(records)
        if number >= _PAGES:
            raise Unavailable(f"{self.name}: {number} pages and no end; narrow the question", config.longest_wait_s)
        if config.paging == "link":
            links = (match for match in _LINK.finditer(response.headers.get("link", "")) if _NEXT.search(match[2]))
            return next(({"url": self._same_host(match[1], response), "number": number + 1} for match in links), None)
        if config.paging == "next":
            token = self._next.search(document)
            if token in (None, "", False):
                return None
            if config.next_param:
                return {"params": {config.next_param: text_of(token)}, "number": number + 1}
            return {"url": self._same_host(text_of(token), response), "number": number + 1}
        if config.paging == "none" or count < config.page_size:
            return None
        start: dict[str, Any] = {}
        if config.ascending:
            asked = (following or {}).get("from", position.get("cursor") or config.start)
            top = self._top(records, response, None)
            if top is not None and self._written(top, 0) != self._written(asked, 0) and (not asked or _order(top) > _order(asked)):
                return {"from": top, "number": number + 1}
            start = {"from": following["from"]} if following and "from" in following else {}
            count -= count // _OVERLAP  # among equals only the offset goes on: what moves away meanwhile moves the others up
        done, pages = (following or {}).get("done", 0) + count, (following or {}).get("pages", 0) + 1
        place = {config.page_param: config.page_start + pages} if config.paging == "page" else {config.offset_param: done}
        return {"params": place, "number": number + 1, "done": done, "pages": pages} | start

    def _same_host(self, url: str, response: httpx.Response) -> str:
        asked = response.request.url
        found = asked.join(url)
        if (found.scheme, found.host, found.port) != (asked.scheme, asked.host, asked.port):
            raise Refused(f"{self.name}: the next page is on another host, {found.host}; credentials are not sent there")
        return str(found)

    def _kept(self, cursor: Any, top: Any, seen: list[str], round_: list[str], following: dict[str, Any] | None) -> dict[str, Any]:
        position = {"cursor": cursor, "top": top, "seen": seen, "round": round_, "next": following}
        return {key: value for key, value in position.items() if value}


def _segment(text: str) -> str:
    """A path within one segment of a path, as GitLab wants a project's."""
    return text.replace("/", "%2F")


def _compile(name: str, key: str, path: str) -> Any:
    try:
        return jmespath.compile(path) if path else None
    except JMESPathError as error:
        raise ConfigError(f"sources.{name}.{key}: {path!r} is not a JMESPath: {str(error).splitlines()[0]}") from None


def _filled(body: Any, cursor: str) -> Any:
    if isinstance(body, str):
        return body.replace("{cursor}", cursor)
    if isinstance(body, dict):
        return {key: _filled(value, cursor) for key, value in body.items()}
    return [_filled(item, cursor) for item in body] if isinstance(body, list) else body


def _time(value: Any) -> int | None:
    return time_of(value) if isinstance(value, str) or (isinstance(value, int | float) and value >= _TIME_FIRST) else None


def _order(value: Any) -> tuple[int, Any]:
    """What cursors compare by: times by time, numbers by size, texts as texts."""
    if isinstance(value, int | float):
        return 0, value
    time = _time(value)
    return (1, time) if time is not None else (2, text_of(value))
