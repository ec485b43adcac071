"""What people do to a ticket, told to its incident: state and owner come back, comments stand in the story."""

from __future__ import annotations

from sqlalchemy.orm import Session

from ninefold.ground.clock import now
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.store.records.incidents import RESOLVED, Incident, Ticket

OWNER = "ticket.owner"
"""The attribute of a ticket's event that names its new owner, "" for none; absent where the owner did not change."""


def follow(session: Session, ticket: Ticket, row: Row, pages: Pages) -> None:
    """Take over what an event says of a ticket. Its owner becomes the incident's unless people have given that to somebody else; what
    came from Ninefold itself says nothing new and changes nothing."""
    ticket.status = row.status or ticket.status
    owner = row.attributes.get(OWNER)
    if owner is None or owner == ticket.owner:
        return
    before, ticket.owner = ticket.owner, owner
    incident = session.get(Incident, ticket.incident)
    if incident is None or incident.status == RESOLVED or incident.owner == owner or incident.owner not in ("", before):
        return
    incident.owner = owner
    if incident.pending:
        return
    by = f"ticket {ticket.id} of {ticket.system}"
    title = f"Assigned to {owner}, as {by}" if owner else f"Owner removed, as of {by}"
    pages.line(incident.id, now(), "assigned", title, actor=row.attributes.get("actor", ""), source=ticket.system)
    pages.changed("assigned", incident, actor=row.attributes.get("actor", ""), source=ticket.system)
