"""Request Tracker 5: what happens to tickets, as events, read from the transactions feed of its REST2 API.

```yaml
sources:
  desk:
    type: request_tracker_feed
    url: https://rt.example.org
    token: "${RT_TOKEN}"
```

Every transaction of a ticket that people care about (created, status or another field changed, answered, commented, given to
somebody, custom fields) is one event of kind ``ticket``; mail records, watchers and links are RT's bookkeeping and left out. The title says
who did what; ``ticket``, ``subject``, ``queue``, ``owner``, ``actor``, ``change``, ``field``, ``old``, ``new`` are attributes, a new
status is the event's status as RT writes it, a message's text its body. All events of a ticket have the same fingerprint.

The cursor is the transaction's number, so nothing is missed while Ninefold is away; the last numbers before it are asked for again each
time, for transactions that were committed late, and those that were delivered already are left out. What the token may not see of a
transaction (a comment's text, a ticket) is left out of its event. It begins with what happens
after the first start; `history` begins with the first ticket. RT answers slowly: a page costs it one question, and one for each ticket
(`subjects`) and message (`messages`) in it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ninefold.ground.clock import now
from ninefold.ground.errors import Refused
from ninefold.model.signal import quarantine
from ninefold.plugin import Lent
from ninefold.sources.http_client import Http, HttpConfig
from ninefold.sources.polling import Page, PollConfig, Poller
from ninefold.sources.reading import dump_json, raw_batch

_VERBS = {
    "Create": "opened", "Status": "changed", "Set": "changed", "Comment": "commented on", "Correspond": "answered on", "Take": "took",
    "Give": "gave away", "Steal": "took over", "Untake": "gave back", "CustomField": "changed",
}  # fmt: skip
_FIELDS = "ObjectId,Type,Field,OldValue,NewValue,Created,Creator"
_PAGE = 100
_BACK = 50
"""How many numbers before the cursor are looked at again; less than a page, so that each page goes on."""


class RequestTrackerFeed(Poller):
    """The ticket transactions of a Request Tracker."""

    kind = "request_tracker_feed"
    title = "Request Tracker (feed)"
    signals = frozenset(("event",))
    patience: ClassVar[int] = 3 * _PAGE  # a page costs so many questions

    class Config(PollConfig, HttpConfig):
        """Which RT, and how much of each ticket."""

        every_s: float = Field(30.0, gt=0, le=86400, description="Seconds between two rounds.")
        url: str = Field(pattern=r"^https?://", description="RT's address, without /REST/2.0.")
        token_keyword: str = Field("token", description="What stands before the token.")
        history: bool = Field(False, description="Begin with the first ticket, not with what happens from now on.")
        subjects: bool = Field(True, description="Ask for each ticket's subject, queue and owner.")
        messages: bool = Field(True, description="Ask for the text of answers and comments.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._site = config.url.rstrip("/")
        self._http = Http(self.title, f"sources.{name}", config, config.timeout_s)
        self._tickets: dict[str, dict[str, str]] = {}
        self._names: dict[tuple[str, str], str] = {}

    async def page(self, position: dict[str, Any]) -> Page:
        """The next hundred transactions."""
        if "after" not in position and not self.config.history:
            return Page((), _behind(position, await self._transactions(0, "DESC", _BACK)))
        known = set(position.get("seen", ()))
        found = await self._transactions(max(position.get("after", 0) - _BACK, 0), "ASC", _PAGE)
        self._tickets.clear()  # subjects and owners change
        records, bad = list[bytes](), list[tuple[str, str, bytes]]()
        for item in found:
            if int(item["id"]) in known:
                continue
            try:
                if item["Type"] in _VERBS:
                    records.append(dump_json(await self._record(item)))
            except (KeyError, TypeError, AttributeError) as error:
                bad.append((f"the transaction is not as RT 5 tells it: {type(error).__name__} {error}", "transactions", dump_json(item)))
        batches = [raw_batch(f"webhook:{self.name}", self.name, now(), records)] if records else []
        if bad:
            batches.append(quarantine(self.name, now(), "event", "request_tracker_feed", bad))
        return Page(batches, _behind(position, found), len(found) == _PAGE)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _get(self, path: str, **params: Any) -> Any:
        return (await self._http.ask("GET", f"{self._site}/REST/2.0{path}", params=params))[0]

    async def _transactions(self, after: int, order: str, size: int) -> list[dict[str, Any]]:
        query = [{"field": "id", "operator": ">", "value": after}, {"field": "ObjectType", "value": "RT::Ticket"}]
        params = {"fields": _FIELDS, "orderby": "id", "order": order, "per_page": size}
        answer, _ = await self._http.ask("POST", f"{self._site}/REST/2.0/transactions", json=query, params=params)
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise Refused(f"{self._site} does not answer like Request Tracker 5; is REST2 there?")
        items: list[dict[str, Any]] = answer["items"]
        return items

    async def _record(self, item: dict[str, Any]) -> dict[str, Any]:
        number, change, field = str(item["ObjectId"]), item["Type"], item.get("Field") or ""
        old, new = item.get("OldValue") or "", item.get("NewValue") or ""
        if field == "Owner":
            old, new = await self._name("user", old), await self._name("user", new)
        creator = item.get("Creator")
        actor = str(creator["id"]) if isinstance(creator, dict) else str(creator or "somebody")
        url = f"{self._site}/Ticket/Display.html?id={number}"
        about = await self._ticket(number) if self.config.subjects else {}
        title = f"{actor} {_VERBS[change]} ticket {number}" + (f": {field} {old or 'nothing'} → {new or 'nothing'}" if field else "")
        record = {
            "kind": "ticket", "title": title, "timestamp": item["Created"], "ticket": number, "issue_id": url, "actor": actor,
            "change": change, "transaction": str(item["id"]), "field": field, "old": old, "new": new,
            "status": new if field == "Status" or change == "Status" else "",
            "body": await self._message(str(item["id"])) if self.config.messages and change in ("Create", "Comment", "Correspond") else "",
        }  # fmt: skip
        return {key: value for key, value in (record | about).items() if value}

    async def _ticket(self, number: str) -> dict[str, str]:
        if number not in self._tickets:
            try:
                data = await self._get(f"/ticket/{number}")
            except Refused:  # deleted since, or not for us: its transactions are still worth having
                data = {}
            queue, owner = ((data.get(key) or {}).get("id", "") for key in ("Queue", "Owner"))
            about = {"subject": data.get("Subject") or "", "queue": await self._name("queue", str(queue)), "owner": str(owner)}
            self._tickets[number] = {key: value for key, value in about.items() if value}
        return self._tickets[number]

    async def _name(self, kind: str, number: str) -> str:
        """The name of a user or queue that RT speaks of by its number."""
        if number.isdigit() and (kind, number) not in self._names:
            try:
                data = await self._get(f"/{kind}/{number}")
            except Refused:  # not for us: its number has to do
                data = {}
            self._names[kind, number] = str(data.get("Name") or number)
        return self._names.get((kind, number), number)

    async def _message(self, transaction: str) -> str:
        try:
            items = (await self._get(f"/transaction/{transaction}/attachments", fields="Content,ContentType")).get("items") or ()
        except Refused:  # a comment this token may not read: that it was made is still worth having
            return ""
        return next(
            (str(item["Content"]) for item in items if str(item.get("ContentType", "")).startswith("text/") and item.get("Content")), ""
        )


def _behind(position: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    """The position behind these transactions: the largest number, and those before it that need not come again."""
    ids = {int(item["id"]) for item in found}
    after = max(ids | {position.get("after", 0)})
    return {"after": after, "seen": sorted(number for number in ids | set(position.get("seen", ())) if number > after - _BACK)}
