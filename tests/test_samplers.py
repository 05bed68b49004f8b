"""Laws of samplers, run over the table of samplers: a new row brings its tests."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from raysweep import Choice, Float, Int, Space, Study
from raysweep.search.samplers import SAMPLERS, Sampler, sampler_of
from raysweep.study.objective import Objective
from raysweep.study.space import Point, encode
from raysweep.trial import Report, Trial

DISCRETE = {
    "layers": Int(1, 3),
    "units": Int(8, 24, step=8, each="layers"),
    "optimizer": ["adam", "sgd"],
    "momentum": Float(0.0, 0.9, step=0.3, when={"optimizer": "sgd"}),
    "widths": Choice([[64, 32], [128]]),
}
SPACE = Space({**DISCRETE, "lr": Float(1e-4, 1e-1, log=True, grid=3)})
LOSS = Objective("loss", maximize=False)
# Each sampler with its options; a new row brings its tests.
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "grid": ("grid", {}),
    "random": ("random", {}),
    "hyperopt": ("hyperopt", {"startup": 5}),
    "hyperopt anneal": ("hyperopt", {"kind": "anneal", "startup": 5}),
    "hyperopt random": ("hyperopt", {"kind": "random", "startup": 5}),
    "optuna": ("optuna", {"startup": 5}),
    "optuna gp": ("optuna", {"sampler": "gp", "startup": 5}),
    "optuna cmaes": ("optuna", {"sampler": "cmaes", "startup": 5}),
    "optuna nsga2": ("optuna", {"sampler": "nsga2", "startup": 5}),
    "optuna qmc": ("optuna", {"sampler": "qmc"}),
    "auto": ("auto", {"startup": 5}),
}
EVERY = pytest.mark.parametrize("name", TABLE)
DRAWING = [n for n in TABLE if n != "grid"]
SEEDS = {"optuna gp": 1}  # half a second an ask
REMEMBERING = {"optuna cmaes", "optuna nsga2"}  # what was asked before, and not only what came of it
LEARNING = ["hyperopt", "hyperopt anneal", "optuna", "optuna gp", "auto"]
GP = pytest.param("optuna gp", marks=pytest.mark.slow)


def make(name: str, seed: int, space: Space = SPACE) -> Sampler:
    kind, options = TABLE[name]
    return SAMPLERS[kind](space, LOSS, seed, **options)


def ended(number: int, point: Point, loss: float | None) -> Trial:
    """A trial with a result, or one that diverged; one after the other."""
    times = {"asked": 2.0 * number, "finished": 2.0 * number + 1}
    if loss is None:
        return Trial(number, point, "diverged", **times)
    return Trial(number, point, "completed", (Report(1, {"loss": loss}, 0.0),), **times)


def search(
    sampler: Sampler,
    loss: Callable[[Point], float | None],
    trials: range,
    known: Any = (),
    remembers: bool = False,
) -> list[Point]:
    """The points of a search of one trial at a time."""
    for trial in known:
        if remembers:
            assert sampler.ask(trial.number) == trial.point
        sampler.tell(Trial(trial.number, trial.point))
        sampler.tell(trial)
    points = []
    for number in trials:
        point = sampler.ask(number)
        assert point is not None
        points.append(point)
        sampler.tell(Trial(number, point))
        sampler.tell(ended(number, point, loss(point)))
    return points


def bowl(point: Point) -> float:
    """Best at lr 0.01 with sgd and a momentum of 0.6."""
    return (math.log10(point["lr"]) + 2) ** 2 + abs(point.get("momentum", 1.5) - 0.6)


@EVERY
def test_every_point_is_legal(name: str) -> None:
    points = search(make(name, 0), bowl, range(20))
    assert [SPACE.check(p) for p in points] == [[]] * 20


@EVERY
def test_the_same_seed_gives_the_same_points(name: str) -> None:
    assert search(make(name, 7), bowl, range(20)) == search(make(name, 7), bowl, range(20))


def edge(point: Point) -> float | None:
    """Best at the border beyond which everything diverges."""
    return None if point["lr"] > 0.01 else -math.log10(point["lr"])


@EVERY
@pytest.mark.parametrize("loss", [bowl, edge])
def test_a_sampler_told_what_another_was_goes_on_as_that_one(
    name: str, loss: Callable[[Point], float | None]
) -> None:
    whole = search(make(name, 7), loss, range(20))
    known = [ended(n, p, loss(p)) for n, p in enumerate(whole[:12])]
    assert search(make(name, 7), loss, range(12, 20), known, name in REMEMBERING) == whole[12:]


@pytest.mark.parametrize("name", ["hyperopt", "hyperopt anneal", "optuna", "auto", GP])
def test_what_is_learned_shows(name: str) -> None:
    gains = []
    for seed in range(SEEDS.get(name, 11)):
        learned = [bowl(p) for p in search(make(name, seed), bowl, range(40))[25:]]
        drawn = [bowl(p) for p in search(make("random", seed), bowl, range(40))[25:]]
        gains.append(statistics.median(learned) / statistics.median(drawn))
    assert statistics.median(gains) < 0.75


@pytest.mark.parametrize("name", sorted(REMEMBERING))
def test_generations_come_closer(name: str) -> None:
    space = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0), "z": Float(-1.0, 1.0)})
    gains = []
    for seed in range(5):
        found = search(make(name, seed, space), lambda p: sum((v - 0.4) ** 2 for v in p.values()), range(100))
        losses = [sum((v - 0.4) ** 2 for v in p.values()) for p in found]
        gains.append(statistics.median(losses[75:]) / statistics.median(losses[:25]))
    assert statistics.median(gains) < 0.5


@pytest.mark.parametrize("name", ["hyperopt", "optuna", "auto", GP])
def test_what_fails_is_avoided(name: str) -> None:
    shares = []
    for seed in range(SEEDS.get(name, 5)):
        late = search(make(name, seed), edge, range(40))[20:]
        shares.append(sum(edge(p) is None for p in late) / len(late))
    assert statistics.median(shares) < 0.5


@pytest.mark.parametrize("name", [n for n in LEARNING if n not in REMEMBERING])
def test_an_error_in_the_code_is_not_held_against_the_point(name: str) -> None:
    known = [ended(n, p, bowl(p)) for n, p in enumerate(search(make(name, 1), bowl, range(8)))]
    failed = Trial(8, {**known[0].point}, "failed", error="KeyError: 'x'")
    assert search(make(name, 1), bowl, range(9, 12), [*known, failed]) == search(
        make(name, 1), bowl, range(9, 12), known
    )


@pytest.mark.parametrize("name", DRAWING)
def test_another_attempt_is_another_point(name: str) -> None:
    sampler = make(name, 0)
    search(sampler, bowl, range(10))
    assert len({encode(sampler.ask(10, attempt) or {}) for attempt in range(5)}) > 1


@pytest.mark.parametrize("name", [n for n in DRAWING if n != "random"])
def test_start_up_is_exactly_as_many_quasi_random_points_however_parallel(name: str) -> None:
    sampler = make(name, 3)
    asked = [sampler.ask(n) for n in range(5)]  # all at once, nothing told
    assert asked == [make("optuna qmc", 3).ask(n) for n in range(5)]


@EVERY
def test_trials_that_wait_and_then_end_in_any_way_are_taken(name: str) -> None:
    sampler = make(name, 5)
    for number in range(8):
        point = sampler.ask(number)
        assert point is not None
        reports = (Report(1, {"loss": bowl(point)}, 0.0),)
        for status in ("waiting", ("completed", "stopped", "diverged", "failed")[number % 4]):
            sampler.tell(Trial(number, point, status, reports))  # type: ignore[arg-type]
        sampler.tell(Trial(number + 100, point, "waiting", reports))
    assert SPACE.check(sampler.ask(8) or {}) == []


@pytest.mark.parametrize("name", [n for n in LEARNING if n != "optuna gp"])
def test_a_trial_that_waits_is_learned_from_and_told_again_replaces_what_it_was(name: str) -> None:
    def told(*losses: float, status: Any) -> Sampler:
        sampler = make(name, 5)
        for number in range(12):
            point = make("optuna qmc", 5).ask(number)
            assert point is not None
            sampler.tell(Trial(number, point))
            for i, loss in enumerate(losses, 1):
                reports = tuple(Report(e, {"loss": loss + bowl(point)}, 0.0) for e in range(1, i + 1))
                sampler.tell(Trial(number, point, status if i == len(losses) else "waiting", reports))
        return sampler

    once, twice = told(0.5, status="completed"), told(3.0, 0.5, status="completed")
    waiting, unknown = told(0.5, status="waiting"), told(status="waiting")
    assert once.ask(12) == twice.ask(12) == waiting.ask(12) != unknown.ask(12)


@pytest.mark.parametrize("name", DRAWING)
def test_another_seed_gives_other_points(name: str) -> None:
    assert make(name, 7).ask(0) != make(name, 8).ask(0)


@pytest.mark.parametrize("name", DRAWING)
def test_with_nothing_told_every_sampler_draws_the_space_s_own_distribution(name: str) -> None:
    n = 600
    points = [p for p in (nothing_told(name, i) for i in range(n)) if p is not None]
    for key, value, share in [
        ("layers", 2, 1 / 3),
        ("optimizer", "sgd", 1 / 2),
        ("widths", [64, 32], 1 / 2),
    ]:
        assert sum(p[key] == value for p in points) / n == pytest.approx(share, abs=0.06)
    momenta = Counter(p["momentum"] for p in points if "momentum" in p)
    assert set(momenta) == {0.0, 0.3, 0.6, 0.9}
    assert all(c / momenta.total() == pytest.approx(1 / 4, abs=0.08) for c in momenta.values())
    lrs = sorted(p["lr"] for p in points)
    for quartile, value in [(n // 4, 10**-3.25), (n // 2, 10**-2.5), (3 * n // 4, 10**-1.75)]:
        assert lrs[quartile] == pytest.approx(value, rel=0.35)


def nothing_told(name: str, number: int) -> Point | None:
    """What a sampler's own algorithm asks first, past our start-up."""
    kind, options = TABLE[name]
    options = {**options, "startup": 0} if "startup" in options else options
    return SAMPLERS[kind](SPACE, LOSS, number, **options).ask(number)


def test_the_grid_is_each_point_once_and_then_ends() -> None:
    sampler = make("grid", 0)
    points = []
    while (point := sampler.ask(len(points))) is not None:
        sampler.tell(Trial(len(points), point))
        points.append(encode(point))
    assert len(points) == len(set(points)) == SPACE.size()


# --- what a person believes --------------------------------------------------------------------------------------

BELIEVED = Space(
    {
        "layers": Int(1, 3, prior=2),
        "units": Int(8, 64, each="layers", prior=32),
        "optimizer": Choice(["adam", "sgd"], prior="sgd"),
        "momentum": Float(0.0, 0.9, when={"optimizer": "sgd"}, prior=0.9),
        "lr": Float(1e-4, 1e-1, log=True, prior=1e-3),
        "batch": [32, 64],
    }
)


def train(**point: Any) -> dict[str, float]:
    """Never run."""
    return {"loss": math.nan}


def believing(algorithm: str, seed: int = 0, space: Space = BELIEVED) -> Sampler:
    return sampler_of(Study(name="x", trainable=train, minimize="loss", trials=100, algorithm=algorithm, seed=seed,
                            space=space))  # fmt: skip


@pytest.mark.parametrize("algorithm", ["random", "hyperopt", "optuna"])
def test_a_search_begins_at_the_priors_and_believes_them_less_and_less(algorithm: str) -> None:
    first = believing(algorithm).ask(0) or {}
    assert {k: v for k, v in first.items() if k != "batch"} == {
        "layers": 2, "units": [32, 32], "optimizer": "sgd", "momentum": 0.9, "lr": 1e-3,
    }  # fmt: skip
    points = search(believing(algorithm), bowl, range(60))
    assert [BELIEVED.check(p) for p in points] == [[]] * 60
    assert points == search(believing(algorithm), bowl, range(60))

    def near(points: list[Point]) -> float:
        return sum(abs(math.log10(p["lr"]) + 3) < 0.3 for p in points) / len(points)

    drawn = [[believing("random", seed).ask(n) or {} for seed in range(200)] for n in (1, 90)]
    assert near(drawn[0]) > 0.35 > 0.27 > near(drawn[1])  # by chance it is a fifth


def test_without_priors_a_sampler_is_as_it_was() -> None:
    plain = Space({n: replace(p, prior=None) for n, p in BELIEVED.items()})
    assert believing("random", space=plain).ask(5) == SAMPLERS["random"](plain, LOSS, 0).ask(5)
