"""Correlation: how well alerts are folded into the incidents they belong to, beside simple ways of folding them.

Data and measures are described in `bench.correlate`.
"""

from bench.correlate import accuracy as run

__all__ = ["run"]
