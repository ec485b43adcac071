"""Request Tracker 5 over its REST2 API: tickets opened, commented, changed and closed, and what people do to them read back.

```yaml
connectors:
  tracker:
    type: request_tracker
    url: https://rt.example.org
    token: "${RT_TOKEN}"
    queue: General
```

RT answers 200 to a change it refuses and says so only in a sentence, and ignores unknown fields in silence; so every change is
read back and a difference is an error. A ticket refers to what it is about by a link (`reference`), by which a repeated
`create` finds the ticket again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from ninefold.connectors.wire import Answer, Wire
from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, Refused, Unavailable
from ninefold.model.signal import event_id
from ninefold.plugin import Changes, Connector, Strict, action

_TRANSACTIONS = {
    "Create": "opened", "Status": "changed", "Set": "changed", "Comment": "commented on", "Correspond": "answered on", "Take": "took",
    "Give": "gave away", "Steal": "took over", "Untake": "gave back", "CustomField": "changed",
}  # fmt: skip
"""The transaction types that people care about, as verbs; the rest (mail records, watchers, links) is RT's bookkeeping."""
_FIELDS = "ObjectId,Type,Field,OldValue,NewValue,Created,Creator"
_PAGE = 100
_NOBODY = "Nobody"
"""RT's user who owns what nobody does."""


class Create(Strict):
    """A ticket to open."""

    subject: str = Field(min_length=1, max_length=200)
    text: str = Field("", description="The first message.")
    reference: str = Field(
        min_length=1,
        max_length=240,
        description="URL or URN of what it is about; a ticket that refers to it is returned, not a second one made.",
    )
    queue: str = Field("", description="The connector's queue by default.")
    priority: int | None = Field(None, ge=0, le=100)
    requestor: str = Field("", description="An e-mail address.")
    fields: dict[str, str] = Field(default_factory=dict, description="Custom fields by name.")


class Comment(Strict):
    """A message that people of the desk see, or also the requestor (`public`)."""

    ticket: str = Field(pattern=r"^[0-9]+$")
    text: str = Field(min_length=1)
    public: bool = False


class Update(Strict):
    """Changes to a ticket; what is not named stays."""

    ticket: str = Field(pattern=r"^[0-9]+$")
    subject: str | None = None
    status: str | None = None
    owner: str | None = Field(None, description="A user's name; empty for nobody.")
    priority: int | None = Field(None, ge=0, le=100)
    fields: dict[str, str] = Field(default_factory=dict, description="Custom fields by name.")
    version: str = Field("", description="The `version` the decision rests on: a newer ticket is a conflict. The current one by default.")


class Resolve(Strict):
    """A ticket to close, with the closing comment."""

    ticket: str = Field(pattern=r"^[0-9]+$")
    text: str = ""
    status: str = Field("resolved", description="The closing status of the queue's lifecycle.")


class Find(Strict):
    """A ticket to read."""

    ticket: str = Field(pattern=r"^[0-9]+$")


class TicketAnswer(Strict):
    """A ticket as it is now. `ticket`, `url` and `status` are the names by which workflows mirror tickets of any system."""

    ticket: str
    url: str
    status: str
    subject: str
    owner: str
    queue: str
    priority: int
    fields: dict[str, list[str]]
    version: str
    created: bool = Field(False, description="This call made it.")


class RequestTracker(Connector):
    """A Request Tracker 5 service desk."""

    kind: ClassVar[str] = "request_tracker"

    class Config(Strict):
        """Where it is and who Ninefold is there: a token (best) or a user and a password."""

        url: str = Field(pattern=r"^https?://", description="RT's address, without /REST/2.0.")
        token: SecretStr | None = None
        user: str = ""
        password: SecretStr | None = None
        queue: str = "General"
        timeout_s: float = Field(30.0, gt=0, le=300)
        poll_s: float = Field(15.0, ge=0.1, description="How often changes are asked for.")

        @model_validator(mode="after")
        def _credentials(self) -> Self:
            if (self.token is None) == (self.password is None) or (self.password is not None) != bool(self.user):
                raise ValueError("give either `token`, or `user` and `password`")
            return self

    def __init__(self, config: RequestTracker.Config) -> None:
        super().__init__(config)
        self._site = config.url.rstrip("/")
        self._root = f"{self._site}/REST/2.0"
        headers = {"Authorization": f"token {config.token.get_secret_value()}"} if config.token else {}
        auth = (config.user, config.password.get_secret_value()) if config.password else None
        self._wire = Wire("Request Tracker", headers=headers, auth=auth, timeout_s=config.timeout_s)
        self._users: dict[str, str] = {}

    @action(risk="write", idempotent=True)
    async def create(self, ask: Create) -> TicketAnswer:
        """Open a ticket, or return the one that already refers to `reference`."""
        known = await self._referring(ask.reference)
        if known:
            return await self._ticket(known)
        ticket: dict[str, Any] = {
            "Queue": ask.queue or self.config.queue, "Subject": ask.subject, "RefersTo": ask.reference, "ContentType": "text/plain",
            "Content": ask.text or ask.subject,
        }  # fmt: skip
        if ask.priority is not None:
            ticket["Priority"] = ask.priority
        if ask.requestor:
            ticket["Requestor"] = ask.requestor
        if ask.fields:
            ticket["CustomFields"] = ask.fields
        answer = await self._call("POST", "/ticket", repeatable=False, json=ticket)
        made = await self._ticket(str(answer.json()["id"]), created=True)
        _compare(made, {"subject": ask.subject, "priority": ask.priority}, ask.fields, "")
        return made

    @action(risk="write")
    async def comment(self, ask: Comment) -> TicketAnswer:
        """Add a message."""
        kind = "correspond" if ask.public else "comment"
        body = {"Content": ask.text, "ContentType": "text/plain"}
        await self._call("POST", f"/ticket/{ask.ticket}/{kind}", repeatable=False, json=body)
        try:
            return await self._ticket(ask.ticket)
        except Unavailable as error:  # to try again would say it twice
            raise Refused(f"the message was added to ticket {ask.ticket}, which cannot be read now: {error}", carried_out=True) from error

    @action(risk="write", idempotent=True)
    async def update(self, ask: Update) -> TicketAnswer:
        """Change fields, if the ticket has not been changed by anyone since it was read.

        Raises:
            Conflict: it has.
            Refused: RT did not take a value; its sentence is in the message.
        """
        version = ask.version or (await self._ticket(ask.ticket)).version
        wanted = {"subject": ask.subject, "status": ask.status, "owner": ask.owner, "priority": ask.priority}
        change: dict[str, Any] = {name.capitalize(): value for name, value in wanted.items() if value is not None}
        if ask.owner == "":
            change["Owner"] = _NOBODY
        if ask.fields:
            change["CustomFields"] = ask.fields
        answer = await self._call("PUT", f"/ticket/{ask.ticket}", repeatable=True, json=change, headers={"If-Match": f'"{version}"'})
        after = await self._ticket(ask.ticket)
        _compare(after, wanted, ask.fields, _sentences(answer))
        return after

    @action(risk="write", idempotent=True)
    async def resolve(self, ask: Resolve) -> TicketAnswer:
        """Close a ticket; one that is closed already stays as it is, without a second comment."""
        before = await self._ticket(ask.ticket)
        if before.status == ask.status:
            return before
        body = {"Content": ask.text or f"{ask.status} by Ninefold", "ContentType": "text/plain", "Status": ask.status}
        answer = await self._call("POST", f"/ticket/{ask.ticket}/comment", repeatable=False, json=body)
        after = await self._ticket(ask.ticket)
        _compare(after, {"status": ask.status}, {}, _sentences(answer))
        return after

    @action(risk="read", idempotent=True)
    async def read(self, ask: Find) -> TicketAnswer:
        """The ticket as it is now."""
        return await self._ticket(ask.ticket)

    async def check(self) -> str:
        """Ask for the version and for the queue.

        Raises:
            Unavailable: RT cannot be reached.
            Refused: the credentials are wrong, or the queue does not exist or may not be seen.
        """
        version = (await self._call("GET", "/rt", repeatable=True)).json()["Version"]
        await self._call("GET", f"/queue/{self.config.queue}", repeatable=True)
        return f"Request Tracker {version} at {self._site}, queue {self.config.queue}"

    async def changes(self, cursor: str) -> Changes:
        """Ticket transactions behind the cursor (a transaction id), at most 100, as event rows of kind ``ticket``.

        `source_id` is the ticket's number; `status` the new one where it changed; attributes: ticket.id, ticket.url, ticket.change,
        actor and, where a field changed, ticket.field, ticket.old, ticket.new, and ticket.owner where that is the owner.
        """
        if not cursor:
            newest = await self._transactions("0", order="DESC", per_page=1)
            return Changes([], newest[0]["id"] if newest else "0")
        found = await self._transactions(cursor, order="ASC", per_page=_PAGE)
        events = [await self._event(item) for item in found if item["Type"] in _TRANSACTIONS]
        return Changes(events, found[-1]["id"] if found else cursor)

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _call(self, method: str, path: str, *, repeatable: bool, **body: Any) -> Answer:
        return await self._wire.call(method, self._root + path, repeatable=repeatable, **body)

    async def _ticket(self, ticket: str, *, created: bool = False) -> TicketAnswer:
        answer = await self._call("GET", f"/ticket/{ticket}", repeatable=True)
        data = answer.json()
        return TicketAnswer(
            ticket=str(data["id"]),
            url=self._page(str(data["id"])),
            status=data["Status"],
            subject=data["Subject"],
            owner=_somebody(data["Owner"]["id"]),
            queue=data["Queue"]["id"],
            priority=int(data["Priority"] or 0),
            fields={field["name"]: [str(value) for value in field["values"]] for field in data["CustomFields"] if field["values"]},
            version=answer.headers.get("etag", "").strip('"'),
            created=created,
        )

    def _page(self, ticket: str) -> str:
        return f"{self._site}/Ticket/Display.html?id={ticket}"

    async def _referring(self, reference: str) -> str:
        if "'" in reference or "\\" in reference:
            raise Refused(f"reference {reference!r} holds a quote or a backslash, which RT cannot search for; encode it")
        query = {"query": f"RefersTo = '{reference}'", "orderby": "id", "order": "DESC", "per_page": 1}
        items = (await self._call("GET", "/tickets", repeatable=True, params=query)).json()["items"]
        return str(items[0]["id"]) if items else ""

    async def _transactions(self, after: str, *, order: str, per_page: int) -> list[dict[str, Any]]:
        query = [{"field": "id", "operator": ">", "value": int(after)}, {"field": "ObjectType", "value": "RT::Ticket"}]
        params = {"fields": _FIELDS, "orderby": "id", "order": order, "per_page": per_page}
        answer = await self._call("POST", "/transactions", repeatable=True, json=query, params=params)
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def _event(self, item: dict[str, Any]) -> dict[str, Any]:
        ticket, kind, field = str(item["ObjectId"]), item["Type"], item["Field"]
        old, new = item["OldValue"] or "", item["NewValue"] or ""
        if field == "Owner":
            old, new = await self._user(old), await self._user(new)
        actor = item["Creator"]["id"]
        attributes = {"ticket.id": ticket, "ticket.url": self._page(ticket), "ticket.change": kind, "actor": actor}
        what = f"{actor} {_TRANSACTIONS[kind]} ticket {ticket}"
        if field:
            attributes |= {"ticket.field": field, "ticket.old": old, "ticket.new": new}
            what += f": {field} {old or 'nothing'} → {new or 'nothing'}"
            if field == "Owner":
                attributes["ticket.owner"] = _somebody(new)
        body = await self._message(item["id"]) if kind in ("Comment", "Correspond") else ""
        return {
            "id": event_id("request_tracker", self._site, str(item["id"])),
            "time": parse(item["Created"]),
            "kind": "ticket",
            "source_id": ticket,
            "title": what,
            "body": body,
            "severity": "info",
            "status": new if field == "Status" else "",
            "attributes": attributes,
        }

    async def _user(self, number: str) -> str:
        if number and number not in self._users:
            self._users[number] = str((await self._call("GET", f"/user/{number}", repeatable=True)).json()["Name"])
        return self._users.get(number, number)

    async def _message(self, transaction: str) -> str:
        path = f"/transaction/{transaction}/attachments"
        items = (await self._call("GET", path, repeatable=True, params={"fields": "Content,ContentType"})).json()["items"]
        return next((str(item["Content"]) for item in items if str(item.get("ContentType", "")).startswith("text/")), "")


def _somebody(name: str) -> str:
    """A user's name, "" for nobody's."""
    return "" if name == _NOBODY else name


def _sentences(answer: Answer) -> str:
    try:
        said = answer.json()
    except BadData:
        return ""
    return "; ".join(map(str, said)) if isinstance(said, list) else ""


def _compare(after: TicketAnswer, wanted: dict[str, Any], fields: dict[str, str], said: str) -> None:
    """RT's 200 proves nothing: what was asked for must be what the ticket now says. What it did take stays: the ticket is there."""
    differing = [name for name, value in wanted.items() if value is not None and getattr(after, name) != value]
    differing += [f"custom field {name}" for name, value in fields.items() if after.fields.get(name) != [value]]
    if differing:
        told = f": {said}" if said else ""
        what = f"Request Tracker did not take {', '.join(differing)} of ticket {after.ticket}{told}"
        raise Refused(what, carried_out=True, answer=after.model_dump(mode="json", by_alias=True))
