"""Backup and cold export, asked for by an administrator. Paths are the server's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData
from ninefold.store.backup import back_up
from ninefold.store.export import export
from ninefold.web.auth import Admin, tell
from ninefold.web.state import TheApp

router = APIRouter(tags=["upkeep"])


class BackupOrder(BaseModel):
    """Where a backup goes."""

    to: str = Field(description="Absolute path of a new folder on the server.", examples=["/var/backups/ninefold-2026-11-22"])


class ExportOrder(BaseModel):
    """What to export, and where to."""

    to: str = Field(description="Absolute path of a folder on the server; it is made, or added to.")
    before: str = Field(description="RFC 3339: days that end at or before this time are exported.", examples=["2026-11-01T00:00:00Z"])


class File(BaseModel):
    """A file that was written."""

    path: str
    rows: int
    bytes: int


class Exported(BaseModel):
    """What an export wrote; what had been exported before is not named."""

    files: list[File]


@router.post("/backup")
def backup(order: BackupOrder, actor: Admin, app: TheApp, request: Request) -> dict[str, Any]:
    """Back up journal, records and store while the program runs; answers with the manifest when the backup is whole."""
    tell(request, "backup", order.to)
    journal = app.config.data / "journal.db"
    return back_up(_absolute(order.to), journal, app.records, app.store, app.writer.resting(), app.config.store.backup_to)


@router.post("/export")
def export_(order: ExportOrder, actor: Admin, app: TheApp, request: Request) -> Exported:
    """Write old days as Parquet files."""
    tell(request, "export", order.to, before=order.before)
    try:
        before = parse(order.before)
    except ValueError:
        raise BadData(f"{order.before!r} is not a time; write it as 2026-01-31T00:00:00Z", "before") from None
    return Exported(files=[File(**file._asdict()) for file in export(app.store, _absolute(order.to), before)])


def _absolute(path: str) -> Path:
    if not Path(path).is_absolute():
        raise BadData(f"{path!r} is not an absolute path", "to")
    return Path(path)
