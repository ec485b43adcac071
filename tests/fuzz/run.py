"""Coverage-guided fuzzing of every decoder with atheris: ``make fuzz``, or ``python tests/fuzz/run.py --seconds 60 otlp syslog``.

Each decoder runs in a process of its own with a limit on memory and on the time of one input; a crash leaves the input in ``crash-*``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def one(name: str, seconds: int, corpus: str) -> None:
    """Fuzz one decoder in this process; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["ninefold.sources"]):
        from decoders import decoders

    from ninefold.ground.errors import NinefoldError

    decode = decoders()[name]

    def test(data: bytes) -> None:
        try:
            decode(data)
        except NinefoldError:
            return

    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=10", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *limits, "-verbosity=0", "-print_final_stats=1", corpus], test)
    atheris.Fuzz()


def main() -> int:
    """Fuzz all decoders whose name begins with one of the given words; 1 when one crashed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*")
    options.add_argument("--seconds", type=int, default=20, help="time for each decoder")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--corpus", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.one:
        one(asked.one, asked.seconds, asked.corpus)
    from decoders import decoders, seeds

    data = Path(os.environ.get("NINEFOLD_DATA", HERE.parents[2] / "shared" / "data"))
    broken = []
    for name in sorted(decoders()):
        if asked.names and not name.startswith(tuple(asked.names)):
            continue
        with tempfile.TemporaryDirectory() as corpus:
            for place, seed in enumerate(seeds(data, name)):
                (Path(corpus) / str(place)).write_bytes(seed)
            command = [sys.executable, __file__, "--one", name, "--seconds", str(asked.seconds), "--corpus", corpus]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = next((line.split()[-1] for line in done.stderr.splitlines() if "executed_units" in line), "?")
        print(f"{'ok' if done.returncode == 0 else 'CRASHED':8}{name}: {runs} inputs", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stdout[-2000:] + done.stderr[-4000:])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
