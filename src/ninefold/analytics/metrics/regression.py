"""Regression of one series on others: a robust fit over a time, and a recursive one whose coefficients may drift.

*Robust*: Huber's weights by iterated least squares (Huber 1964, doi:10.1214/aoms/1177703732), which a few wild points cannot move;
intervals that hold when residuals follow one another (Newey and West 1987, doi:10.2307/1913610); a ridge (Hoerl and Kennard 1970,
doi:10.1080/00401706.1970.10488634) when drivers move together, and words that say which of them cannot be told apart.

*Recursive*: least squares that forget, as a square-root information filter: each point is rotated into the triangle R of the weighted
normal equations by a QR step, so that the information stays positive whatever the numbers are (Haykin, Adaptive Filter Theory, ch. 15).
Forgetting by a discount is a random walk of the coefficients (West and Harrison, Bayesian Forecasting and Dynamic Models, 1997, ch. 6),
from which the intervals come; they include what is not known of the discount, as a mean over those whose forecasts cannot be told from
the best one's (Buckland, Burnham and Augustin 1997, doi:10.2307/2533961). The residual that counts is that of the forecast made before the
point was seen, divided by its own standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

FORGETTING = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
"""Discounts to choose from: a point's weight after each further point."""
Z95 = 1.96
CONDITION, INFLATION = 30.0, 10.0
"""Beyond these drivers move together: of all of them (a ridge is used), and of one with the others."""
_HUBER, _ROUNDS, _RIDGE = 1.345, 50, 1e-3
_MEMORY = 0.999
_PRIOR = 1e-4
"""The information put in before the first point, in standardised units: that of a ten-thousandth of a point."""
_BOUND = 3.0
"""Residuals beyond so many standard errors are pulled in before anything is learned from them."""
ALARM, SURE, WINDOW, VOTES = 4.0, 8.0, 5, 3
"""An alarm begins with one residual beyond `SURE`, or `VOTES` of the last `WINDOW` on one side beyond `ALARM`; it ends when none is."""


_STATE = ("centre", "scale", "forgetting", "root", "facts", "apart")


class Step(NamedTuple):
    """What a filter makes of one point, a value for each discount: the forecast before it was seen, its standard error, and the
    studentised residual."""

    forecast: F64
    error: F64
    residual: F64


class Recursive:
    """Recursive least squares with forgetting, for one target; several discounts run side by side and the best forecaster speaks.

    Args:
        centre, scale: of the drivers and, last, of the target, by which they are made comparable; shape (drivers + 1,).
        forgetting: the discounts, 0 < each <= 1.
    """

    def __init__(self, centre: F64, scale: F64, forgetting: Sequence[float] = FORGETTING) -> None:
        self.centre, self.scale, self.forgetting = centre, scale, np.array(forgetting, float)
        size = len(centre)
        start = np.hstack((np.sqrt(_PRIOR) * np.eye(size), np.zeros((size, 1))))
        self.root: F64 = np.repeat(start[None], len(forgetting), axis=0)
        """R, upper triangular, and beside it the rotated targets, for each discount."""
        self.facts = np.zeros((3, len(forgetting)))
        """Weighted squares of forecast errors, their weight, and weighted absolute errors."""
        self.apart = np.zeros((len(forgetting), len(forgetting)))
        """Weighted squares of the differences between the absolute errors of each two discounts."""
        self.points = 0
        self._solve()

    def state(self) -> dict[str, Any]:
        """Plain data from which `resume` continues."""
        return {name: getattr(self, name).tolist() for name in _STATE} | {"points": self.points}

    @classmethod
    def resume(cls, state: dict[str, Any]) -> Recursive:
        """A filter that continues where `state` was taken."""
        filter_ = cls(np.array(state["centre"]), np.array(state["scale"]), state["forgetting"])
        filter_.root, filter_.facts, filter_.points = np.array(state["root"]), np.array(state["facts"]), state["points"]
        filter_.apart = np.array(state.get("apart", filter_.apart))
        filter_._solve()
        return filter_

    @property
    def ready(self) -> bool:
        """Whether there were points enough to judge by."""
        return self.points >= 4 * len(self.centre) + 4

    @property
    def best(self) -> int:
        """Which discount has made the best forecasts: by absolute errors, for a wild point counts alike for all."""
        return int(np.argmin(self.facts[2]))

    @property
    def noise(self) -> F64:
        """The variance of a residual for each discount, in standardised units; that of the target before there are points enough."""
        squares, weight, _ = self.facts
        noise: F64 = np.maximum((squares + 1e-3) / (weight + 1e-3), 1e-12)
        return noise

    def step(self, drivers: F64, target: float) -> Step:
        """Take in one point."""
        size, lam = len(self.centre), self.forgetting
        x = np.concatenate(([1.0], (drivers - self.centre[:-1]) / self.scale[:-1]))
        y = (target - self.centre[-1]) / self.scale[-1]
        spread = 1.0 + ((x @ self._inverse) ** 2).sum(axis=1) / lam
        expected = self.beta @ x
        error = np.sqrt(self.noise * spread)
        residual = (y - expected) / error
        pulled = expected + error * np.clip(residual, -_BOUND, _BOUND) if self.ready else np.full(len(lam), y)
        rows = np.empty((len(lam), size + 1, size + 1))
        rows[:, :-1] = np.sqrt(lam)[:, None, None] * self.root
        rows[:, -1, :-1], rows[:, -1, -1] = x, pulled
        triangle: F64 = np.asarray(np.linalg.qr(rows, mode="r"))
        self.root = triangle[:, :size]
        if self.ready:
            missed = np.abs(y - expected)
            self.facts[2] = _MEMORY * self.facts[2] + missed
            self.apart = _MEMORY * self.apart + (missed[:, None] - missed) ** 2
        if self.points > size:  # before that the coefficients are not known, and errors are not noise
            kept = np.minimum(lam, _MEMORY)
            self.facts[:2] = kept * self.facts[:2] + np.stack(((pulled - expected) ** 2 / spread, np.ones(len(lam))))
        self.points += 1
        self._solve()
        return Step(expected * self.scale[-1] + self.centre[-1], error * self.scale[-1], residual)

    def _solve(self) -> None:
        """Coefficients and the inverse of R from what was rotated in."""
        size = len(self.centre)
        # What is not excited any more would be forgotten altogether and its coefficient run wild: the prior's information stays.
        low = np.diagonal(self.root[:, :, :-1], axis1=1, axis2=2) ** 2 < 0.5 * _PRIOR
        for k in np.flatnonzero(low.any(axis=1)).tolist():
            beta = np.linalg.lstsq(self.root[k, :, :-1], self.root[k, :, -1], rcond=None)[0]
            extra = np.sqrt(_PRIOR) * np.eye(size)[low[k]]
            whole = np.vstack((self.root[k], np.hstack((extra, (extra @ beta)[:, None]))))
            self.root[k] = np.linalg.qr(whole, mode="r")[:size]
        self._inverse = np.linalg.inv(self.root[:, :, :-1])
        self.beta = (self._inverse @ self.root[:, :, -1:])[:, :, 0]

    def covariance(self) -> F64:
        """Of the standardised coefficients, for each discount."""
        covariance: F64 = self._inverse @ self._inverse.transpose(0, 2, 1) * self.noise[:, None, None]
        return covariance

    def shares(self) -> F64:
        """How far each discount's forecasts are from being told worse than those of another one, by their paired errors: weights in a
        row for each other one, sum 1."""
        worse = np.maximum(self.facts[2] - self.facts[2, :, None], 0.0)
        chance = np.exp(-0.5 * worse**2 / np.maximum(self.apart, 1e-300))
        shares: F64 = chance / chance.sum(axis=1, keepdims=True)
        return shares

    def coefficients(self) -> tuple[F64, F64]:
        """Constant and coefficients of the best discount in the units of the data, and their standard errors."""
        best = self.best
        covariance = _mixed(self.beta, self.covariance(), self.shares()[best], best)
        return _unscaled(self.beta[best], covariance, self.centre, self.scale)


def _mixed(betas: F64, covariances: F64, shares: F64, best: int) -> F64:
    """The covariance about the best one's coefficients: of each discount, and of them all among one another; shapes (…, k, p),
    (…, k, p, p) and (…, k) give (…, p, p)."""
    away = betas - betas[..., best : best + 1, :]
    mixed: F64 = np.einsum("...k,...kij->...ij", shares, covariances + away[..., :, None] * away[..., None, :])
    return mixed


class Alarms:
    """A consensus of studentised residuals: when the target leaves what its drivers explain, and when it is back."""

    def __init__(self, recent: Sequence[float] = (), firing: bool = False) -> None:
        self.recent, self.firing = list(recent), firing

    def judge(self, residual: float) -> str:
        """``fired``, ``resolved`` or ""."""
        self.recent = [*self.recent[-(WINDOW - 1) :], residual]
        votes = max(sum(r > ALARM for r in self.recent), sum(r < -ALARM for r in self.recent))
        if not self.firing and (votes >= VOTES or abs(residual) > SURE):
            self.firing = True
            return "fired"
        if self.firing and len(self.recent) == WINDOW and max(map(abs, self.recent)) <= ALARM:
            self.firing = False
            return "resolved"
        return ""


class Alarm(NamedTuple):
    """An episode of a fit: from one point to another (None: to the end), and the most extreme studentised residual."""

    begin: int
    end: int | None
    peak: float


class Fit(NamedTuple):
    """A regression over a time. Of n points and p drivers; the constant comes first.

    Attributes:
        coefficients, errors: in the units of the data, shape (p + 1,), with standard errors; of a recursive fit those at the end.
        effects: what one usual step (a standard deviation) of each driver moves the target by, in its standard deviations, shape (p,).
        history, history_errors: coefficients after each point, shape (n, p + 1); of a robust fit there is no history (n is 0).
        fitted, residuals: at each point; of a recursive fit forecasts made before the point was seen. Residuals are studentised.
        alarms: when the target left what the drivers explain.
        explained: the share of the target's variance (R²), of a recursive fit that of the forecasts.
        forgetting: the discount chosen, 1 for a robust fit.
        ridge: the penalty, 0 for none.
        inflation: variance inflation factor of each driver, shape (p,).
        condition: of the standardised drivers.
        lags: how many residuals the intervals allow to follow one another.
    """

    coefficients: F64
    errors: F64
    effects: F64
    history: F64
    history_errors: F64
    fitted: F64
    residuals: F64
    alarms: list[Alarm]
    explained: float
    forgetting: float
    ridge: float
    inflation: F64
    condition: float
    lags: int


def robust(drivers: F64, target: F64) -> Fit:
    """Huber's fit with Newey and West's intervals.

    Args:
        drivers: shape (n, p), finite.
        target: shape (n,), finite.
    """
    n, p = drivers.shape
    centre, scale = _frame(drivers, target)
    x = np.hstack((np.ones((n, 1)), (drivers - centre[:-1]) / scale[:-1]))
    y = (target - centre[-1]) / scale[-1]
    condition, inflation = _diagnose(x[:, 1:])
    ridge = 0.0 if condition <= CONDITION else float(n) * (p + 1) * _RIDGE
    penalty = ridge * np.diag([0.0] + [1.0] * p)
    beta, weights, residuals = _irls(x, y, penalty)
    inside = weights >= 1.0  # Huber's function is flat beyond: points there say nothing of how the fit would move
    bread = np.linalg.pinv(x.T @ (inside[:, None] * x) + penalty)
    lags = int(4 * (n / 100) ** (2 / 9))
    covariance = bread @ _long_run(x * (weights * residuals)[:, None], lags) @ bread * n / max(n - p - 1, 1)
    sigma = max(_spread(residuals), 1e-9)
    leverage = np.einsum("ij,jk,ik->i", x * weights[:, None], bread, x)
    student = residuals / (sigma * np.sqrt(np.clip(1.0 - leverage, 0.05, 1.0)))
    coefficients, errors = _unscaled(beta, covariance, centre, scale)
    fitted = target - residuals * scale[-1]
    none = np.empty((0, p + 1))
    return Fit(
        coefficients, errors, beta[1:], none, none, fitted, student, _alarms(student), _explained(target, fitted), 1.0, ridge, inflation,
        condition, lags,
    )  # fmt: skip


def recursive(drivers: F64, target: F64, forgetting: float = 0.0) -> Fit:
    """Recursive least squares over a time.

    Args:
        drivers: shape (n, p), finite.
        target: shape (n,), finite.
        forgetting: the discount; 0 chooses the one whose forecasts were the closest.
    """
    n, p = drivers.shape
    centre, scale = _frame(drivers, target)
    filter_ = Recursive(centre, scale, (forgetting,) if forgetting else FORGETTING)
    kinds = len(filter_.forgetting)
    betas, spreads = np.empty((n, kinds, p + 1)), np.empty((n, kinds, p + 1, p + 1))
    steps, apart, shares = np.empty((n, 2, kinds)), np.zeros(kinds), np.empty((n, kinds, kinds))
    for i in range(n):
        ready = filter_.ready
        step = filter_.step(drivers[i], float(target[i]))
        betas[i], spreads[i], steps[i] = filter_.beta, filter_.covariance(), (step.forecast, step.residual)
        shares[i] = filter_.shares()
        if ready:
            apart += np.abs(step.forecast - target[i])
    k = int(np.argmin(apart))
    history, errors = _unscaled(betas[:, k], _mixed(betas, spreads, shares[:, k], k), centre, scale)
    fitted, student = steps[:, 0, k], steps[:, 1, k]
    condition, inflation = _diagnose((drivers - centre[:-1]) / scale[:-1])
    warm = min(4 * (p + 1) + 4, n - 1)
    return Fit(
        history[-1], errors[-1], betas[-1, k, 1:], history, errors, fitted, student, _alarms(student, warm),
        _explained(target[warm:], fitted[warm:]), float(filter_.forgetting[k]), 0.0, inflation, condition, 0,
    )  # fmt: skip


def shifted(values: F64, lag: int) -> F64:
    """A driver as it was `lag` steps before (after, when negative); NaN where nothing is known."""
    moved = np.full(len(values), np.nan)
    if abs(lag) < len(values):
        if lag >= 0:
            moved[lag:] = values[: len(values) - lag]
        else:
            moved[:lag] = values[-lag:]
    return moved


def out_of_time(drivers: F64, target: F64) -> tuple[float, float, float]:
    """Mean absolute errors over the last three tenths, after a robust fit to what comes before: of it, of the mean, of the value before."""
    cut = int(0.7 * len(target))
    fit = robust(drivers[:cut], target[:cut])
    late = target[cut:]
    forecast = fit.coefficients[0] + drivers[cut:] @ fit.coefficients[1:]
    persistent = np.abs(np.diff(target[cut - 1 :]))
    return float(np.mean(np.abs(late - forecast))), float(np.mean(np.abs(late - np.median(target[:cut])))), float(np.mean(persistent))


def _frame(drivers: F64, target: F64) -> tuple[F64, F64]:
    """Centre and scale of drivers and target; a driver that stands still has the scale 1."""
    table = np.column_stack((drivers, target))
    scale = table.std(axis=0)
    return table.mean(axis=0), np.where(scale > 1e-12 * np.maximum(np.abs(table).max(axis=0), 1e-300), scale, 1.0)


def _irls(x: F64, y: F64, penalty: F64) -> tuple[F64, F64, F64]:
    """Coefficients, Huber weights and residuals at convergence."""
    weights: F64 = np.ones(len(y))
    beta: F64 = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        new: F64 = np.asarray(np.linalg.lstsq(x.T @ (weights[:, None] * x) + penalty, x.T @ (weights * y), rcond=None)[0], float)
        residuals = y - x @ new
        sigma = max(_spread(residuals), 1e-9)
        weights = np.minimum(1.0, _HUBER * sigma / np.maximum(np.abs(residuals), 1e-300))
        if np.max(np.abs(new - beta)) < 1e-9:
            break
        beta = new
    left: F64 = y - x @ new
    return new, weights, left


def _spread(residuals: F64) -> float:
    """A standard deviation that a few wild points do not move."""
    return float(np.median(np.abs(residuals)) / 0.6745)


def _long_run(scores: F64, lags: int) -> F64:
    """The sum of the covariances of scores up to `lags` apart, with Bartlett's weights."""
    total: F64 = scores.T @ scores
    for lag in range(1, lags + 1):
        pair = scores[lag:].T @ scores[:-lag]
        total = total + (1.0 - lag / (lags + 1.0)) * (pair + pair.T)
    return total


def _diagnose(x: F64) -> tuple[float, F64]:
    """Condition number and variance inflation factors of standardised drivers; infinite where one is made of the others."""
    if not x.shape[1]:
        return 1.0, np.empty(0)
    values = np.linalg.svd(x, compute_uv=False)
    condition = float(values[0] / values[-1]) if values[-1] > 1e-10 * values[0] else float("inf")
    inflation = np.empty(x.shape[1])
    for j in range(x.shape[1]):
        others = np.hstack((np.ones((len(x), 1)), np.delete(x, j, axis=1)))
        left = x[:, j] - others @ np.linalg.lstsq(others, x[:, j], rcond=None)[0]
        total = float(np.sum((x[:, j] - x[:, j].mean()) ** 2))
        inflation[j] = total / float(left @ left) if left @ left > 1e-10 * max(total, 1e-300) else float("inf")
    return condition, inflation


def _explained(target: F64, fitted: F64) -> float:
    total = float(np.sum((target - target.mean()) ** 2))
    return 1.0 - float(np.sum((target - fitted) ** 2)) / total if total > 0 else 0.0


def _alarms(student: F64, warm: int = 0) -> list[Alarm]:
    """Episodes of studentised residuals from the point `warm` on."""
    alarms, found = Alarms(), []
    for i in range(warm, len(student)):
        said = alarms.judge(float(student[i]))
        if said == "fired":
            found.append(Alarm(i, None, float(student[i])))
        elif said == "resolved":
            found[-1] = found[-1]._replace(end=i)
        if alarms.firing and abs(student[i]) > abs(found[-1].peak):
            found[-1] = found[-1]._replace(peak=float(student[i]))
    return found


def _unscaled(beta: F64, covariance: F64, centre: F64, scale: F64) -> tuple[F64, F64]:
    """Coefficients of standardised data, and their standard errors, in the units of the data; beta has shape (…, p + 1)."""
    back = np.diag(np.concatenate(([1.0], 1.0 / scale[:-1]))) * scale[-1]
    back[0, 1:] = -centre[:-1] / scale[:-1] * scale[-1]
    coefficients = beta @ back.T
    coefficients[..., 0] += centre[-1]
    errors = np.sqrt(np.maximum(np.einsum("ij,...jk,ik->...i", back, covariance, back), 0.0))
    return coefficients, errors


def words(fit: Fit, names: Sequence[str], target: str) -> list[str]:
    """What a reader of the figures must know, in sentences.

    Args:
        fit: of these drivers.
        names: of the drivers, for people.
        target: its name.
    """
    said = [f"the drivers explain {100 * max(fit.explained, 0.0):.0f} % of the variance of {target}"]
    order = np.argsort(-np.abs(fit.effects), kind="stable").tolist()
    for j in order:
        value, error = fit.coefficients[j + 1], fit.errors[j + 1]
        if np.isinf(fit.inflation[j]):
            said.append(f"{names[j]} stands still or is made of the other drivers; its own effect cannot be told")
        elif abs(value) <= 1.96 * error:
            said.append(f"{names[j]} has no effect that can be told from none")
        elif fit.inflation[j] > INFLATION:
            said.append(f"{names[j]} moves with the other drivers (VIF {fit.inflation[j]:.0f}): what belongs to which of them is uncertain")
    if fit.ridge:
        said.append("the drivers are nearly one, so a ridge holds the coefficients together: they are drawn towards each other and 0")
    if fit.forgetting < 1:
        said.append(f"the coefficients drift: the best forecasts come from about the last {1 / (1 - fit.forgetting):.0f} points")
    open_ = [alarm for alarm in fit.alarms if alarm.end is None]
    if fit.alarms:
        many = f"{len(fit.alarms)} times" if len(fit.alarms) > 1 else "once"
        said.append(f"{target} left what the drivers explain {many}" + (" and has not come back" if open_ else ""))
    return said
