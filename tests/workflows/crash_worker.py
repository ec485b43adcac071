"""A process that runs workflows until it is killed: ``python crash_worker.py <folder> <workflow file>``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from workshop import Workshop


async def main(folder: Path, text: str) -> None:
    async with Workshop(folder).running(text):
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]).read_text()))
