"""Historical SQL over everything stored: reading only, within limits."""

from __future__ import annotations

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["query"])
ARROW, CSV = "application/vnd.apache.arrow.stream", "text/csv"


class Question(BaseModel):
    """A query in ClickHouse's SQL over the tables metric, series, log, span, event, relation and quarantine, the roll-ups metric_1m and
    metric_1h, and the views v_metric, v_metric_1m, v_metric_1h, v_series, v_log, v_event, v_span, v_span_red and v_relation."""

    sql: str = Field(min_length=1, max_length=100_000, examples=["SELECT name, count() FROM series GROUP BY name"])
    limit: int = Field(1000, ge=1, le=100_000, description="Most rows to return.")
    timeout_s: float = Field(10.0, gt=0, le=120, description="Most seconds it may take; one that takes longer is refused.")


class Column(BaseModel):
    """A column of an answer; the type is ClickHouse's."""

    name: str
    type: str


class Answer(BaseModel):
    """Rows of JSON values: times as RFC 3339 texts, integers beyond 2^53 as texts, NaN as null."""

    columns: list[Column]
    rows: list[list[Any]]
    truncated: bool = Field(description="There were more rows than the limit.")
    elapsed_s: float


@router.post("/query", response_model=Answer, responses={200: {"content": {ARROW: {}, CSV: {}}}})
def query(question: Question, actor: Viewer, app: TheApp, accept: Annotated[str, Header()] = "") -> Response:
    """Run a query. `Accept: text/csv` and `Accept: application/vnd.apache.arrow.stream` choose another form of the answer."""
    if ARROW in accept:
        return Response(app.store.export(question.sql, "arrow", limit=question.limit, timeout_s=question.timeout_s), media_type=ARROW)
    if CSV in accept:
        return Response(app.store.export(question.sql, "csv", limit=question.limit, timeout_s=question.timeout_s), media_type=CSV)
    started = time.monotonic()
    columns, rows, truncated = app.store.select(question.sql, limit=question.limit, timeout_s=question.timeout_s)
    answer = {"columns": columns, "rows": rows, "truncated": truncated, "elapsed_s": round(time.monotonic() - started, 4)}
    return Response(orjson.dumps(answer), media_type="application/json")
