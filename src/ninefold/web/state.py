"""How a request handler gets the running program."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from ninefold.app import App


def app_of(connection: HTTPConnection) -> App:
    """The App behind a request or a WebSocket."""
    return cast(App, connection.app.state.ninefold)


TheApp = Annotated[App, Depends(app_of)]
"""A handler parameter of this type receives the App."""
