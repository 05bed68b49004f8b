"""A Gaussian process of point and epoch (after Klein et al. 2020, MOBSTER): what a trial came to at its first rungs
says something of where others will end.

The inputs are a point's features and how far its training was; the outputs are the quantiles of the losses, as those
of a normal distribution, so that neither scale nor outliers matter. The next point has the largest expected
improvement at the last epoch, with the trials that are pending taken as if they came to what the model expects.
"""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import threadpoolctl
from scipy import linalg, optimize, special

from raysweep.search.samplers.basic import QuasiRandom
from raysweep.search.samplers.cube import Array, Cube
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

CANDIDATES, NEAR, ROUNDS = 1000, 50, 3
RANDOM = 8  # one point in so many is drawn at random
FITTED, MODELLED = 150, 400  # observations that lengths are fitted to, and that a prediction uses
HIGHEST = 3  # a trial is observed at its last epoch, and at so many thirds of it before
FAILED, PENDING = 50, 100  # the latest trials without a result, and those without one yet, that it looks at
GROWTH = 1.2  # lengths are fitted again when there are so many times as many observations
SQRT5 = math.sqrt(5)


_Row = tuple[Array, int, float]
"""An observation: the shares of a point, an epoch, and the loss so far."""


class GaussianProcess:
    """The model as a sampler. The first `startup` points come from a Sobol sequence. What `ask` returns depends
    on (seed, number), and on the trials told and pending."""

    def __init__(self, space: Space, objective: Objective, seed: int, startup: int = 10):
        self._space, self._objective, self._seed, self._startup = space, objective, seed, startup
        self._cube = Cube(space)
        self._first = QuasiRandom(space, objective, seed)
        self._pending: dict[int, Array] = {}
        self._told: dict[int, tuple[Array, list[tuple[int, float]]]] = {}
        """Of each trial that has a result its shares, and the loss so far at some epochs."""
        self._failed: dict[int, Array] = {}
        self._count, self._enough = 0, 2
        """How many observations there are, and from how many on the lengths are to be fitted again."""
        self._sample: list[_Row] = []  # the observations to fit them to
        self._lengths: Array | None = None

    def tell(self, trial: Trial) -> None:
        score = trial.score(self._objective)
        if score is None and not trial.excess(self._objective):
            if not trial.ended and trial.number not in self._told:
                self._pending[trial.number] = self._cube.shares(trial.point)
            else:
                self._pending.pop(trial.number, None)
            return
        shares = self._pending.pop(trial.number, None)
        shares = self._cube.shares(trial.point) if shares is None else shares
        if score is None:
            self._told.pop(trial.number, None)
            self._failed[trial.number] = shares
        else:
            before = len(self._told[trial.number][1]) if trial.number in self._told else 0
            observed = _observed(trial, self._objective)
            self._told[trial.number] = shares, observed
            self._count += len(observed) - before
        if self._count >= self._enough:
            # What is fitted to must not depend on when a point was asked for: a resumed search asks later.
            self._sample, self._lengths = self._observations()[-FITTED:], None
            self._enough = math.ceil(self._count * GROWTH)

    def ask(self, number: int, attempt: int = 0) -> Point:
        own = random.Random(f"{self._seed}/{number}/{attempt}")
        if number < self._startup:
            return self._first.ask(number, attempt)
        if len(self._told) < 2 or not self._cube.size or own.randrange(RANDOM) == 0:
            return self._space.sample(own)
        with _threads().limit(limits=1):  # matrices are small, and the cores are the trials'
            return self._cube.point(self._best(np.random.default_rng(own.getrandbits(64))))

    def _best(self, rng: np.random.Generator) -> Array:
        """The shares of the point with the largest expected improvement."""
        model, known = self._model()
        means = model.predict(self._cube.features(known), 1.0)[0]
        lowest, best = float(means.min()), known[np.argsort(means)[:10]]

        def gain(shares: Array) -> Array:
            return expected_improvement(*model.predict(self._cube.features(shares), 1.0), lowest)

        shares = np.vstack([rng.random((CANDIDATES, self._cube.size)), _near(best, CANDIDATES, 0.1, rng)])
        gains = gain(shares)
        for scale in np.geomspace(0.1, 0.01, ROUNDS):
            top = np.argsort(-gains)[:5]
            more = _near(shares[top], NEAR, scale, rng)
            shares, gains = np.vstack([shares[top], more]), np.concatenate([gains[top], gain(more)])
        found: Array = shares[int(np.argmax(gains))]
        return found

    @property
    def cost(self) -> float:
        """About how many seconds an ask takes, on a core of 2024: an estimate, which is the same on each machine."""
        return 2e-3 + 1e-4 * min(MODELLED, sum(len(losses) for _, losses in self._told.values()))

    def _model(self) -> tuple[Model, Array]:
        """The model of what was told, and of those that are pending as it expects them; and the shares of the
        trials that it knows."""
        rows = self._observations()
        x, r, z = self._arrays(rows)
        if self._lengths is None:
            self._lengths = fit(*self._arrays(self._sample), self._cube.groups)
        if self._failed:
            failed = self._cube.features(np.array(list(self._failed.values())[-FAILED:]))
            x, r = np.vstack([x, failed]), np.concatenate([r, np.ones(len(failed))])
            z = np.concatenate([z, np.full(len(failed), z.max())])
        model = Model(self._cube.groups, self._lengths)
        model.tell(x, r, z)
        if self._pending:
            pending = self._cube.features(np.array(list(self._pending.values())[-PENDING:]))
            expected, _ = model.predict(pending, 1.0)
            x, r = np.vstack([x, pending]), np.concatenate([r, np.ones(len(pending))])
            model.tell(x, r, np.concatenate([z, expected]))
        return model, np.unique(np.array([shares for shares, *_ in rows]), axis=0)

    def _observations(self) -> list[_Row]:
        """The observations that are modelled: the best ones, and the latest."""
        rows = [(shares, *pair) for shares, pairs in self._told.values() for pair in pairs]
        if len(rows) <= MODELLED:
            return rows
        best = sorted(range(len(rows)), key=lambda i: rows[i][2])[: MODELLED // 4]
        latest = range(len(rows) - (MODELLED - len(best)), len(rows))
        return [rows[i] for i in sorted({*best, *latest})]

    def _arrays(self, rows: list[_Row]) -> tuple[Array, Array, Array]:
        """Features, how far trainings were (0 to 1), and outputs."""
        last = max(math.log(epoch) for _, epoch, _ in rows)
        x = self._cube.features(np.array([shares for shares, *_ in rows]))
        r = np.array([math.log(epoch) / last if last else 1.0 for _, epoch, _ in rows])
        return x, r, quantiles(np.array([loss for *_, loss in rows]))


@functools.cache
def _threads() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _observed(trial: Trial, objective: Objective) -> list[tuple[int, float]]:
    """The loss so far at the last epoch of a trial, and at some before it."""
    losses: list[tuple[int, float]] = []
    lowest = math.inf
    for report in trial.reports:
        value = objective.leading(report.metrics)
        if value is not None:
            lowest = min(lowest, objective.loss(value))
        if math.isfinite(lowest):
            losses.append((report.epoch, lowest))
    wanted = {len(losses) // 3**i for i in range(HIGHEST + 1)}
    return [pair for i, pair in enumerate(losses, 1) if i in wanted]


def quantiles(losses: Array) -> Array:
    """Losses as quantiles of a normal distribution, those that are equal alike."""
    _, place, counts = np.unique(losses, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(losses)
    found: Array = special.ndtri(middle)[place]
    return found


def expected_improvement(mean: Array, deviation: Array, lowest: float) -> Array:
    """By how much a normal variable falls below `lowest`, on average."""
    by = (lowest - mean) / deviation
    density = np.exp(-0.5 * by**2) / math.sqrt(2 * math.pi)
    found: Array = deviation * (by * special.ndtr(by) + density)
    return found


def _near(shares: Array, count: int, scale: float, rng: np.random.Generator) -> Array:
    """Neighbours of rows of shares: some coordinates moved, or drawn anew."""
    rows = shares[rng.integers(len(shares), size=count)]
    d = rows.shape[1]
    moved = rng.random(rows.shape) < max(0.3, 1.5 / d)
    anew = rng.random(rows.shape) < 0.2 / d
    rows = np.where(moved, np.clip(rows + scale * rng.standard_normal(rows.shape), 0, 1), rows)
    found: Array = np.where(anew, rng.random(rows.shape), rows)
    return found


class Model:
    """A Gaussian process with a Matern-5/2 kernel, a length for each coordinate and one for the epoch."""

    def __init__(self, groups: Array, theta: Array):
        """`theta`: the logarithms of the lengths, of the epoch's length, of the variance and of the noise."""
        self._lengths = np.exp(theta[groups])
        self._epoch, self._variance, self._noise = np.exp(theta[-3:])

    def tell(self, x: Array, r: Array, z: Array) -> None:
        """The observations: features `[n, d]`, how far trainings were (0 to 1), outputs."""
        self._x, self._r = x / self._lengths, r / self._epoch
        covariance = self._variance * matern(distances(self._x, self._x, self._r, self._r))
        covariance[np.diag_indices(len(z))] += self._noise + 1e-8
        self._factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        self._weights = linalg.cho_solve((self._factor, True), z, check_finite=False)

    def predict(self, x: Array, r: float) -> tuple[Array, Array]:
        """The mean and the standard deviation for these features, so far into the training."""
        across = self._variance * matern(
            distances(x / self._lengths, self._x, np.full(len(x), r / self._epoch), self._r)
        )
        mean = across @ self._weights
        solved = linalg.solve_triangular(self._factor, across.T, lower=True, check_finite=False)
        return mean, np.sqrt(np.maximum(self._variance - (solved**2).sum(axis=0), 1e-10))


def distances(a: Array, b: Array, r: Array, s: Array) -> Array:
    """Squared distances between rows of features and stages."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T + (r[:, None] - s[None]) ** 2
    found: Array = np.maximum(squares, 0)
    return found


def matern(squares: Array) -> Array:
    """The Matern-5/2 kernel of squared distances."""
    d = SQRT5 * np.sqrt(squares)
    found: Array = (1 + d + d**2 / 3) * np.exp(-d)
    return found


def fit(x: Array, r: Array, z: Array, groups: Array) -> Array:
    """The most probable `theta` of a `Model`, under priors that hold lengths near 0.7 and noise near 0.01."""
    count = int(groups.max()) + 1 if len(groups) else 0
    squares = [
        sum(
            ((x[:, i, None] - x[None, :, i]) ** 2 for i in np.flatnonzero(groups == g)),
            np.zeros((len(z), len(z))),
        )
        for g in range(count)
    ]
    parts = np.stack([*squares, (r[:, None] - r[None]) ** 2])
    prior = np.array([*[math.log(0.7)] * count, math.log(1.0), 0.0, math.log(1e-2)])
    spread = np.array([*[1.0] * (count + 1), 0.5, 1.5])

    def loss(theta: Array) -> tuple[float, Array]:
        inverse = np.exp(-2 * theta[: count + 1])
        variance, noise = np.exp(theta[-2:])
        d = SQRT5 * np.sqrt(np.tensordot(inverse, parts, 1))
        decay = np.exp(-d)
        kernel = variance * (1 + d + d**2 / 3) * decay
        covariance = kernel.copy()
        covariance[np.diag_indices(len(z))] += noise + 1e-8
        try:
            factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        except linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverted = linalg.cho_solve((factor, True), np.eye(len(z)), check_finite=False)
        weights = inverted @ z
        away = (theta - prior) / spread
        value = 0.5 * z @ weights + np.log(np.diag(factor)).sum() + 0.5 * (away**2).sum()
        slope = 0.5 * (inverted - np.outer(weights, weights))
        by_square = slope * (variance * (5 / 3) * (1 + d) * decay)
        gradient = np.array(
            [
                *(inverse * np.tensordot(parts, by_square, 2)),
                (slope * kernel).sum(),
                noise * np.trace(slope),
            ]
        )
        return float(value), gradient + away / spread

    found = optimize.minimize(
        loss,
        prior,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 30},
        bounds=[(p - 5, p + 5) for p in prior],
    )
    theta: Array = found.x
    return theta
