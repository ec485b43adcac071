"""Where the labelled data is: the folder `NINEFOLD_DATA` names, else `shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("NINEFOLD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
