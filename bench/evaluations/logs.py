"""Logs: templates against the labels of eight systems, sessions against labelled sequences.

Templates are found in one pass and one configuration; GA, FGA, PA and FTA as Loghub-2.0 defines them (Jiang et al., ISSTA 2024), on
the corrected labels: GA, lines whose group has exactly the lines of a true one; FGA, the F1 of such groups; PA, lines whose template is
the true text; FTA, the F1 of templates that have the text of the true one of all their lines. *Normalised* PA and FTA compare texts
after both went through the same masks and tokens, since labels and parsers disagree about what a hole may span. Peers are Drain3 in the
same run, and the published scores of Drain and of the best of fifteen parsers per figure.

Sessions are judged by a model that learned the training sessions only, by one that goes on learning those it does not find odd, and by
one that has learned nothing before; for these two the anomalies are as rare as in reality. Peers of the same run: the event an n-gram
of three leads to among the nine most frequent (what DeepLog learns, Du et al., CCS 2017), and PCA of the event counts (Xu et al.,
SOSP 2009). The threshold lies on a plateau (3 to 4) of both.

    python -m bench.evaluations.logs        prints Markdown tables
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.data import DATA
from bench.logs import SYSTEMS, agreement, labelled
from ninefold.analytics.logs.sequences import LEARNED, ODD, Model, judged, shape
from ninefold.analytics.logs.templates import Miner, tokens_of

MEASURES = ("GA", "FGA", "PA", "FTA", "normalised PA", "normalised FTA")
TARGETS = {"GA": 0.93, "FGA": 0.92, "normalised PA": 0.84}
PREVALENCE = {"hdfs": 0.029, "openstack": 0.117}
F1_TARGETS = {"hdfs": 0.95, "openstack": 0.95}
_HISTORY, _TOP, _VARIANCE = 3, 9, 0.95
ABSENT = "Drain3 is not installed here, so it was not run; `make evaluate` installs it where there is a package registry"
_EDGE = ("((?<=[^A-Za-z0-9])|^)", "((?=[^A-Za-z0-9])|$)")
_README = [
    _EDGE[0] + middle + _EDGE[1]
    for middle in (
        r"(([0-9a-f]{2,}:){3,}([0-9a-f]{2,}))", r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})", r"([0-9a-f]{6,} ?){3,}", r"([0-9A-F]{4} ?){4,}",
        r"(0x[a-f0-9A-F]+)", r"([\-\+]?\d+)",
    )
]  # fmt: skip


def scores(system: str) -> dict[str, float]:
    """The six measures of one system."""
    lines, truth = labelled(system)
    miner = Miner()
    numbers = [miner.add(line) for line in lines]
    found = [miner.find(number) for number in numbers]
    return measures(found, [miner.text(number) for number in found], truth, [miner.tokens[number] for number in found])


def measures(
    found: Sequence[Hashable], texts: Sequence[str], truth: Sequence[str], tokens: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """GA, FGA, PA and FTA, and the last two of normalised templates.

    Args:
        found: the group of each line.
        texts: the template of each line.
        truth: the true template of each line; lines of one text are a true group.
        tokens: the normalised template of each line; made from `texts` when left out.
    """
    theirs = [_normalised(text) for text in truth]
    ours = tokens if tokens is not None else [_normalised(text) for text in texts]
    ga, fga = agreement(found, truth)
    return {
        "GA": ga, "FGA": fga, "PA": _same(texts, truth), "FTA": _templates(texts, truth),
        "normalised PA": _same(ours, theirs), "normalised FTA": _templates(ours, theirs),
    }  # fmt: skip


def _normalised(text: str) -> Hashable:
    return tokens_of(text.replace("<*>", "\0"))


def drain3(system: str) -> dict[str, float]:
    """The measures of Drain3, one configuration: its defaults and the masks of its README; nothing when it is not installed."""
    try:
        from drain3 import TemplateMiner
        from drain3.masking import MaskingInstruction
        from drain3.template_miner_config import TemplateMinerConfig
    except ImportError:
        return {}
    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(pattern, "*") for pattern in _README]
    miner = TemplateMiner(config=config)
    lines, truth = labelled(system)
    found = [miner.add_log_message(line)["cluster_id"] for line in lines]
    text = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    return measures(found, [text[cluster] for cluster in found], truth)


def _same(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    return float(np.mean([one == other for one, other in zip(ours, theirs, strict=True)]))


def _templates(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    """F1 of templates; one of ours is right when all its lines have one true template, which is the same text."""
    true = defaultdict[Hashable, set[Hashable]](set)
    for one, other in zip(ours, theirs, strict=True):
        true[one].add(other)
    return 2 * sum(others == {one} for one, others in true.items()) / (len(true) + len(set(theirs)))


def published() -> dict[tuple[str, str], dict[str, float]]:
    """By system and measure, the published score of each parser; the mean as system `Average`."""
    with (DATA / "logs" / "loghub_2k" / "published_scores_2k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["system"], row["metric"]): {name: float(value) for name, value in row.items() if name not in ("system", "metric") and value}
        for row in rows
    }
    for measure in {metric for _, metric in found}:  # the published mean is of other systems too
        parsers = found[SYSTEMS[0], measure]
        found["Average", measure] = {
            name: float(np.mean([found[system, measure].get(name, np.nan) for system in SYSTEMS])) for name in parsers
        }
    return found


def templates() -> list[dict[str, Any]]:
    """The measures of each system and their means."""
    known = published()
    ours, rival = ({system: one(system) for system in SYSTEMS} for one in (scores, drain3))
    for by_system in (ours, rival):
        by_system["Average"] = {name: float(np.mean([by_system[system][name] for system in SYSTEMS])) for name in by_system["Apache"]}
    rows = []
    for system in ("Average", *SYSTEMS):
        for name in MEASURES if system == "Average" else MEASURES[:5]:
            others = known.get((system, name), {})
            best = max((peer for peer in others if others[peer] == others[peer]), key=lambda peer: others[peer], default="")
            value, peer = ours[system][name], rival[system].get(name)
            said = [f"Drain3 {peer:.3f}"] if peer is not None else []
            if "Drain" in others:
                said.append(f"published Drain {others['Drain']:.3f}, best {best} {others[best]:.3f}")
            rows.append({
                "name": f"{'mean of eight systems' if system == 'Average' else system}: {name}", "value": value, "unit": "share",
                "target": TARGETS.get(name) if system == "Average" else None, "peer": "; ".join(said),
                "ratio": value / peer if peer else None,
            })  # fmt: skip
    rows[0]["note"] = "published scores: one configuration a system, ours and Drain3 (run here) one for all" if rival["Apache"] else ABSENT
    return rows


def load(name: str) -> tuple[list[list[int]], list[list[int]], np.ndarray[Any, Any]]:
    """Training sessions, test sessions in a fixed random order, and which of those are anomalies."""
    rows = pq.read_table(DATA / "logs" / f"{name}_sequences" / "sequences.parquet").to_pylist()
    train = [list(map(int, row["events"].split())) for row in rows if row["split"] == "train"]
    rest = [row for row in rows if row["split"] == "test"]
    rest = [rest[i] for i in np.random.default_rng(1).permutation(len(rest))]
    return train, [list(map(int, row["events"].split())) for row in rest], np.array([row["label"] == "anomaly" for row in rest])


def odd(model: Model, events: Sequence[int]) -> bool:
    """Whether a session is odd, as the technique decides it."""
    return model.n >= LEARNED[0] and model.shapes.get(shape(events), 0.0) < 2.0 and model.score(*judged(events))[0] >= ODD[0]


def ours(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]], *, live: bool = False) -> np.ndarray[Any, Any]:
    """Which test sessions are odd; a live model goes on learning those that are not."""
    model, found = Model(), []
    for events in train:
        model.learn(*judged(events), shape(events), 1)
    for events in test:
        found.append(odd(model, events))
        if live and not found[-1]:
            model.learn(*judged(events), shape(events), 1)
    return np.array(found)


def n_grams(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """Sessions with an event that is not among the most frequent after the ones before it."""
    follow = defaultdict[tuple[int, ...], Counter[int]](Counter)
    for events in train:
        padded = [0] * _HISTORY + list(events)
        for i in range(_HISTORY, len(padded)):
            follow[tuple(padded[i - _HISTORY : i])][padded[i]] += 1
    likely = {before: {event for event, _ in counts.most_common(_TOP)} for before, counts in follow.items()}

    def strange(events: Sequence[int]) -> bool:
        padded = [0] * _HISTORY + list(events)
        return any(padded[i] not in likely.get(tuple(padded[i - _HISTORY : i]), ()) for i in range(_HISTORY, len(padded)))

    return np.array([strange(events) for events in test])


def principal(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """Sessions whose counts lie further from the main components than all but a thousandth of the training ones."""
    size = 1 + max(event for events in [*train, *test] for event in events)
    known, asked = (np.array([np.bincount(events, minlength=size) for events in some], float) for some in (train, test))
    centre = known.mean(axis=0)
    _, strengths, axes = np.linalg.svd(known - centre, full_matrices=False)
    kept = axes[: 1 + int(np.searchsorted(np.cumsum(strengths**2) / max((strengths**2).sum(), 1e-9), _VARIANCE))]

    def distance(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        residual = (rows - centre) - (rows - centre) @ kept.T @ kept
        return np.asarray((residual**2).sum(axis=1))

    return np.asarray(distance(asked) > np.quantile(distance(known), 0.999) + 1e-9)


def figures(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    """Precision, recall, F1 and the share of normal sessions that were called odd."""
    right = float((found & truth).sum())
    precision, recall = right / max(found.sum(), 1), right / max(truth.sum(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9), float(found[~truth].mean())


def as_rare(truth: np.ndarray[Any, Any], share: float) -> np.ndarray[Any, Any]:
    """Places, in order, of all normal sessions and of as many anomalies, drawn at random, as make up this share of both."""
    normal, odd_ones = np.flatnonzero(~truth), np.flatnonzero(truth)
    return np.sort(np.r_[normal, np.random.default_rng(2).choice(odd_ones, round(share / (1 - share) * len(normal)), replace=False)])


def sessions(name: str) -> list[dict[str, Any]]:
    """Rows about the sessions of one system."""
    train, test, truth = load(name)
    title = {"hdfs": "HDFS blocks", "openstack": "OpenStack instances"}[name]
    precision, recall, f1, false = figures(ours(train, test), truth)
    grams, components = figures(n_grams(train, test), truth), figures(principal(train, test), truth)
    rare = as_rare(truth, PREVALENCE[name])
    scratch, after = (figures(ours(known, [test[i] for i in rare], live=True), truth[rare]) for known in ([], train))

    def row(what: str, value: float, place: int, target: float | None = None, *, lower: bool = False) -> dict[str, Any]:
        peers = f"n-gram {grams[place]:.3f}, PCA {components[place]:.3f}"
        return {
            "name": f"{title}, {len(train):,} learned: {what}", "value": value, "unit": "share", "target": target, "peer": peers,
            "ratio": value / grams[place] if grams[place] else None, "lower": lower,
        }  # fmt: skip

    return [
        row("F1", f1, 2, F1_TARGETS[name]), row("precision", precision, 0), row("recall", recall, 1),
        row("normal sessions called odd", false, 3, lower=True),
        {
            "name": f"{title}, {len(train):,} learned and learning on, {PREVALENCE[name]:.1%} anomalies: F1", "value": after[2],
            "unit": "share", "target": None, "peer": None, "ratio": None,
        },
        {
            "name": f"{title}, none learned before, {PREVALENCE[name]:.1%} anomalies from the first: F1", "value": scratch[2],
            "unit": "share", "target": None, "peer": None, "ratio": None,
        },
    ]  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All rows."""
    return [*templates(), *sessions("hdfs"), *sessions("openstack")]


def main() -> None:
    """Print the table."""
    print("| figure | here | target | peers |\n|---|---:|---:|---|")
    for row in run():
        print(f"| {row['name']} | {row['value']:.3f} | {row['target'] or ''} | {row['peer'] or ''} |")


if __name__ == "__main__":
    main()
