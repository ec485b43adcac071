"""Whether a distribution has moved: mergeable histograms with bins of equal ratio, compared edge by edge by exact binomial tails.

A histogram has `BINS` bins, eight to an octave, so a quantile read from it is within 4.5 % of the true one (as DDSketch with a relative
error of 4.5 %: Masson et al., VLDB 2019, doi:10.14778/3352063.3352135), and two are merged by adding them. A window of n calls is held
against a reference of m calls at every edge between bins: of how many calls took longer than the edge, the binomial tail with the
reference's share says how surprising it is (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404). The most surprising edge counts, after
Bonferroni's correction over the edges. Unlike Kolmogorov and Smirnov's distance this sees the tail as well as the body, needs no
resampling, and the edge says what moved. Calls of one window are not independent: n is divided by a dispersion that is
learned from quiet windows, as in quasi-likelihood (Wedderburn 1974, doi:10.1093/biomet/61.3.439).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]
F32 = np.ndarray[Any, np.dtype[np.float32]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

BINS, PER_OCTAVE, FIRST_OCTAVE = 256, 8, 10
"""Bins from 2**10 ns (a microsecond) to 2**42 ns (73 minutes); what is outside falls into the outermost."""
ENOUGH = 500
"""A window counts as at most so many calls: more of them do not make it more independent."""
_WORTH_A_LOOK = 3.0
_PROBES = (0.25, 0.5, 0.75, 0.9)
EDGES_NS: F64 = 2.0 ** (FIRST_OCTAVE + np.arange(1, BINS + 1) / PER_OCTAVE)
"""The upper edge of each bin in ns."""


class Shift(NamedTuple):
    """What `judge` found in each of k windows.

    Attributes:
        slower, faster: -log10 of the corrected probability of so many slow, so many quick calls.
        edge: the bin above whose upper edge the most surprising number of slow calls lies.
        noise: the squared deviation of the window's body in units of a binomial's variance; its mean over quiet windows is the dispersion.
    """

    slower: F64
    faster: F64
    edge: I64
    noise: F64


def bins_of(durations: I64) -> I64:
    """The bin of each duration (ns)."""
    octaves = np.log2(np.maximum(durations, 1).astype(np.float32)) - np.float32(FIRST_OCTAVE)
    bins: I64 = np.clip(octaves * np.float32(PER_OCTAVE), 0, BINS - 1).astype(np.int64)
    return bins


def quantiles(histograms: F32, shares: tuple[float, ...]) -> F64:
    """Quantiles (ns) of each row, shape (k, len(shares)): the geometric middle of their bin; NaN where a row is empty."""
    cumulative = np.cumsum(histograms, axis=1, dtype=np.float64)
    total = cumulative[:, -1:]
    places = np.stack([np.argmax(cumulative >= share * total, axis=1) for share in shares], axis=1)
    return np.where(total > 0, EDGES_NS[places] * 2.0 ** (-0.5 / PER_OCTAVE), np.nan)


def judge(now: F32, usual: F32, dispersion: F64) -> Shift:
    """How surprising windows are beside what is usual.

    Args:
        now, usual: histograms, shape (k, `BINS`), none empty.
        dispersion: of each, 1 for independent calls.
    """
    n, m = now.sum(axis=1, dtype=np.float64)[:, None], usual.sum(axis=1, dtype=np.float64)[:, None]
    slow = n - np.cumsum(now, axis=1, dtype=np.float64)[:, :-1]
    share = (m - np.cumsum(usual, axis=1, dtype=np.float64)[:, :-1] + 0.5) / (m + 1.0)
    apart = slow - n * share
    # Beside a short reference the usual share is itself uncertain: the window counts for less.
    loosened = np.maximum(dispersion[:, None], 1.0) * (1.0 + n / m) * np.maximum(n / ENOUGH, 1.0)
    variance = n * share * (1.0 - share)
    z = apart / np.sqrt(np.maximum(variance * loosened, 1e-12))
    inner = ((usual > 0) | (now > 0)).sum(axis=1)
    slower, edge = _worst(np.where(z > _WORTH_A_LOOK, slow / loosened, 0.0), n / loosened, share, inner)
    faster, _ = _worst(np.where(z < -_WORTH_A_LOOK, (n - slow) / loosened, 0.0), n / loosened, 1.0 - share, inner)
    probes = np.stack([np.argmin(np.abs(share - (1.0 - p)), axis=1) for p in _PROBES], axis=1)
    at = np.take_along_axis
    spread = at(variance, probes, 1) * (1.0 + n / m) * np.maximum(n / ENOUGH, 1.0)
    noise = np.where(spread > 0.05, at(apart, probes, 1) ** 2 / np.maximum(spread, 0.05), np.nan)
    counted = np.isfinite(noise).sum(axis=1)
    return Shift(slower, faster, edge, np.where(counted, np.nansum(noise, axis=1) / np.maximum(counted, 1), 1.0))


def tail(count: F64, trials: F64, share: F64) -> F64:
    """-log10 P(X >= count) of binomials with real-valued numbers; 0 where nothing was counted."""
    from scipy.special import betainc  # here, since importing it takes longer than most processes need it

    inside = np.clip(count, 1e-9, np.maximum(trials, 1e-9))
    chance = betainc(inside, np.maximum(trials - inside + 1.0, 1e-9), np.clip(share, 1e-12, 1.0))
    return np.where(count > 0, -np.log10(np.maximum(chance, 1e-300)), 0.0)


def _worst(counts: F64, trials: F64, share: F64, tests: I64) -> tuple[F64, I64]:
    """The best corrected score of each row, and where it is."""
    scores = np.zeros(counts.shape)
    rows, columns = np.nonzero(counts)
    if len(rows):
        scores[rows, columns] = tail(counts[rows, columns], np.broadcast_to(trials, counts.shape)[rows, columns], share[rows, columns])
    edge = scores.argmax(axis=1)
    best = np.take_along_axis(scores, edge[:, None], 1)[:, 0]
    return np.maximum(best - np.log10(np.maximum(tests, 1)), 0.0), edge
