"""An on-call room in a process of its own, whose pager answers late: ``paging_worker.py FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from switchboard import Switchboard

if __name__ == "__main__":
    asyncio.run(Switchboard(Path(sys.argv[1]), fresh=False, anna="pause").room.run())
