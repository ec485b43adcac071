"""The Prometheus HTTP API below ``/prometheus``: what Grafana's Prometheus data source and other clients of Prometheus ask for.

The base URL for Grafana is ``http://<host>:9900/prometheus``, with a viewer's token as bearer header or as the password of basic auth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import orjson
from promql_parser import parse_duration
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold import __version__
from ninefold.ground.errors import BadData, NinefoldError, Unavailable
from ninefold.promql import bounds, functions
from ninefold.promql.evaluate import Evaluation, parse
from ninefold.promql.matrix import Grid, Value, Vector
from ninefold.promql.operators import number_text
from ninefold.promql.select import Match, Selector, matches_of
from ninefold.sources.reading import time_of
from ninefold.web.auth import authenticate
from ninefold.web.state import app_of

_POINTS = 11_000
_LONGEST_S = 60.0
_FORM_BYTES = 1 << 20
_YEARS_MS = 1000 * 86400 * 365 * 100
Parameters = dict[str, list[str]]
Handle = Callable[[Selector, Parameters], Any]


def routes() -> list[Route]:
    """All routes of the API."""
    both = ["GET", "POST"]
    return [
        Route("/prometheus/api/v1/query", _route(_query), methods=both),
        Route("/prometheus/api/v1/query_range", _route(_query_range), methods=both),
        Route("/prometheus/api/v1/series", _route(_series), methods=both),
        Route("/prometheus/api/v1/labels", _route(_labels), methods=both),
        Route("/prometheus/api/v1/label/{label}/values", _route(_label_values), methods=["GET"]),
        Route("/prometheus/api/v1/metadata", _route(_metadata), methods=["GET"]),
        Route("/prometheus/api/v1/status/buildinfo", _route(_build), methods=["GET"]),
    ]


def _route(handle: Handle) -> Callable[[Request], Any]:
    """A handler behind authentication, its parameters from query and form, its answer in Prometheus' envelope."""

    async def serve(request: Request) -> Response:
        authenticate(request, "viewer")
        given: Parameters = {}
        pairs = list(request.query_params.multi_items())
        if request.method == "POST":
            pairs += parse_qsl((await _body(request)).decode(errors="replace"), keep_blank_values=True)
        for key, value in [*pairs, *request.path_params.items()]:
            given.setdefault(key.removesuffix("[]"), []).append(value)
        try:
            body = await run_in_threadpool(_answer, handle, Selector(app_of(request).store), given)
        except BadData as error:
            return _error(400, "bad_data", str(error))
        except Unavailable as error:
            return _error(503, "unavailable", str(error))
        except NinefoldError as error:
            return _error(422, "execution", str(error))
        return Response(body, media_type="application/json")

    return serve


def _answer(handle: Handle, selector: Selector, given: Parameters) -> bytes:
    """The envelope with what a handler found, within the time that was asked for."""
    asked = given.get("timeout", [""])[0]
    bounds.allow(min(_step(asked) / 1000, _LONGEST_S) if asked else _LONGEST_S)
    try:
        envelope = {"status": "success", "data": handle(selector, given)}
        return orjson.dumps(envelope | ({"warnings": selector.warnings} if selector.warnings else {}))
    except RecursionError:
        raise BadData("the expression is nested too deeply", "query") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            raise HTTPException(413, f"a query is at most {_FORM_BYTES} bytes long")
    return body


def _error(status: int, kind: str, message: str) -> Response:
    return Response(orjson.dumps({"status": "error", "errorType": kind, "error": message}), status, media_type="application/json")


def _query(selector: Selector, given: Parameters) -> dict[str, Any]:
    """An instant query."""
    at = _time(given, "time", round(time.time() * 1000))
    expression = parse(_text(given, "query"))
    if _is_range(expression):
        return _raw_range(selector, expression, at)
    value = Evaluation(selector, Grid(at, at, 1)).evaluate(expression)
    seconds = at / 1000
    if isinstance(value, str):
        return {"resultType": "string", "result": [seconds, value]}
    if not isinstance(value, Vector):
        return {"resultType": "scalar", "result": [seconds, number_text(float(value[0]))]}
    rows = zip(value.labels, value.values[:, 0].tolist(), value.present[:, 0], strict=True)
    return {
        "resultType": "vector",
        "result": [{"metric": labels, "value": [seconds, number_text(number)]} for labels, number, there in rows if there],
    }


def _raw_range(selector: Selector, expression: Any, at: int) -> dict[str, Any]:
    """The samples themselves of a query such as ``up[5m]``."""
    if type(expression).__name__ != "MatrixSelector":
        raise BadData("a subquery only stands inside a function", "query")
    asked = expression.vector_selector
    at -= round(asked.offset.total_seconds() * 1000) if asked.offset else 0
    samples = selector.samples(matches_of(asked), at - round(expression.range.total_seconds() * 1000), at).living()
    result = []
    for row, labels in enumerate(samples.labels):
        piece = slice(int(samples.edges[row]), int(samples.edges[row + 1]))
        result.append({"metric": labels, "values": _pairs(samples.times[piece] / 1000, samples.values[piece])})
    return {"resultType": "matrix", "result": [row for row in result if row["values"]]}


def _query_range(selector: Selector, given: Parameters) -> dict[str, Any]:
    """A range query."""
    start, end = _time(given, "start"), _time(given, "end")
    step = _step(_text(given, "step"))
    if end < start:
        raise BadData("end is before start", "end")
    if (end - start) // step > _POINTS:
        raise BadData(f"more than {_POINTS:,} points a series were asked for; use a longer step", "step")
    expression = parse(_text(given, "query"))
    if _is_range(expression):
        raise BadData("a range query needs an expression of a vector or a number, not a range", "query")
    grid = Grid(start, end, step)
    value: Value = Evaluation(selector, grid).evaluate(expression)
    if isinstance(value, str):
        raise BadData("a range query needs an expression of a vector or a number, not a text", "query")
    vector = value if isinstance(value, Vector) else functions.vector_of(value)
    seconds = grid.times / 1000
    rows = zip(vector.labels, vector.values, vector.present, strict=True)
    result = [{"metric": labels, "values": _pairs(seconds[there], values[there])} for labels, values, there in rows if there.any()]
    return {"resultType": "matrix", "result": result}


def _series(selector: Selector, given: Parameters) -> list[dict[str, str]]:
    """Label sets of the series that match any of ``match[]``."""
    if not given.get("match"):
        raise BadData("at least one match[] is needed", "match[]")
    return [labels for _, labels in selector.series(*_wanted(given))]


def _labels(selector: Selector, given: Parameters) -> list[str]:
    """Names of all labels."""
    return selector.label_names(*_wanted(given))


def _label_values(selector: Selector, given: Parameters) -> list[str]:
    """Values of one label."""
    (label,) = given["label"]
    return selector.label_values(label, *_wanted(given))


def _wanted(given: Parameters) -> tuple[list[list[Match]], int, int]:
    """The selectors of ``match[]``, and the time to look at."""
    groups: list[list[Match]] = []
    for text in given.get("match", []):
        expression = parse(text)
        if type(expression).__name__ != "VectorSelector":
            raise BadData(f"{text!r} is not a selector", "match[]")
        groups.append(matches_of(expression))
    return groups, _time(given, "start", 0), _time(given, "end", 0)


def _metadata(selector: Selector, given: Parameters) -> dict[str, list[dict[str, str]]]:
    """Kind and unit of each metric."""
    kinds = {"counter": "counter", "gauge": "gauge"}
    rows = selector.store.query(
        "SELECT name, any(kind) AS kind, any(unit) AS unit FROM series GROUP BY name ORDER BY name LIMIT 20000"
    ).to_pylist()
    return {row["name"]: [{"type": kinds.get(row["kind"], "unknown"), "help": "", "unit": row["unit"]}] for row in rows}


def _build(selector: Selector, given: Parameters) -> dict[str, Any]:
    """What the server says it is; Grafana asks to learn what it may use."""
    return {"version": "2.45.0", "revision": f"ninefold-{__version__}", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}


def _is_range(expression: Any) -> bool:
    return type(expression).__name__ in ("MatrixSelector", "SubqueryExpr")


def _pairs(seconds: Any, values: Any) -> list[list[Any]]:
    return [[at, number_text(value)] for at, value in zip(seconds.tolist(), np.asarray(values).tolist(), strict=True)]


def _text(given: Parameters, name: str) -> str:
    values = given.get(name, [])
    if not values or not values[0]:
        raise BadData(f"the parameter {name} is missing", name)
    return values[0]


def _time(given: Parameters, name: str, default: int | None = None) -> int:
    """A time parameter in ms: epoch seconds or RFC 3339."""
    if default is not None and not given.get(name):
        return default
    text = _text(given, name)
    try:
        seconds = float(text)
    except ValueError:
        found = time_of(text)
        if found is None:
            raise BadData(f"{text!r} is not a time; send epoch seconds or RFC 3339", name) from None
        return found // 1_000_000
    if not math.isfinite(seconds):
        raise BadData(f"{text!r} is not a time", name)
    return round(min(max(seconds * 1000, -_YEARS_MS), 2 * _YEARS_MS))


def _step(text: str) -> int:
    """A step in ms: seconds or a duration such as 30s."""
    try:
        step = round(float(text) * 1000)
    except ValueError:
        try:
            step = round(parse_duration(text).total_seconds() * 1000)
        except ValueError:
            raise BadData(f"{text!r} is not a duration; send seconds or 30s, 5m, 1h", "step") from None
    if step <= 0:
        raise BadData("the step must be more than zero", "step")
    return step
