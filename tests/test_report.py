"""The report: its numbers are the journal's, whatever a user wrote stays text, and the file needs nothing else."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import statistics
import subprocess
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raysweep
from conftest import quick
from journals import Told, sampled, write
from raysweep import Study
from raysweep.journal.records import FILE, line, read
from raysweep.report.facts import Facts, spearman
from raysweep.report.importance import importances
from raysweep.report.noise import Noise, optimism
from raysweep.report.page import Seen, facts_of, page, report
from raysweep.report.tables import number
from raysweep.study.objective import Objective
from raysweep.study.space import Space
from raysweep.trial import Report, Trial

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!--"
SPACE = {
    "lr": {"float": [1e-4, 1.0], "log": True},
    "layers": {"int": [1, 3]},
    "units": {"int": [8, 64], "each": "layers"},
    "optimizer": ["adam", "sgd"],
    "momentum": {"float": [0.0, 0.9], "when": {"optimizer": "sgd"}},
    "dropout": {"float": [0.0, 0.5], "step": 0.1},
    "epochs": 9,
}


def study(**more: Any) -> Study:
    return Study(trainable="mlp", maximize="val_accuracy", **{"space": SPACE, "trials": 40, **more})


def told(point: dict[str, Any], rng: random.Random) -> Told:
    """An accuracy that depends on the learning rate and a little on dropout; some trials stop, some diverge."""
    top = 0.9 - 0.1 * abs(math.log10(point["lr"]) + 2) - 0.02 * point["dropout"] + rng.gauss(0, 0.01)
    curve = [
        {"val_accuracy": top * (1 - 0.5**e), "train_accuracy": min(1.0, top * (1.02 - 0.5**e))}
        for e in range(1, 10)
    ]
    kind = rng.random()
    if kind < 0.1:
        return Told(point, curve[:1], "diverged", f"loss = nan {HOSTILE}")
    if kind < 0.5:
        return Told(
            point, curve[:3], "stopped", seconds=rng.uniform(0.5, 2.0), used={"cpu": 0.4, "memory": 99.5}
        )
    return Told(point, curve, seconds=rng.uniform(0.5, 2.0), used={"cpu": 0.5, "memory": 120.25})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write(tmp_path / "study", study(), sampled(study(), 40, told), examples=500)


class Parsed(HTMLParser):
    """The tags of a page, its tables as rows of text, its text, and the JSON in it."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.data = "", ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in {"td", "th"}:
            self._rows[-1].append("")
        if tag not in {"meta", "input", "path", "rect"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            assert self._open.pop() == tag, "tags are nested"
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        here = self._open[-1] if self._open else ""
        if here == "caption":
            self._caption += data
        elif here in {"td", "th"}:
            self._rows[-1][-1] += data
        elif here == "script" and data.lstrip().startswith("{"):
            self.data += data
        elif here not in {"script", "style"}:
            self.text += data + "\n"


def of_share(value: float, count: int) -> float:
    """The standard error of a share, by Agresti and Coull."""
    p = (value * count + 2) / (count + 4)
    return math.sqrt(p * (1 - p) / (count + 4))


# --- its numbers --------------------------------------------------------------------------------------------------


def test_the_table_of_trials_is_the_journal(place: Path) -> None:
    records = read(place / FILE)[0]
    parsed = Parsed(report(place))
    heading, *rows = next(t for caption, t in parsed.tables.items() if caption.startswith("40 trials"))
    assert sorted(int(r[0]) for r in rows) == list(range(40))
    for row in rows:
        shown = dict(zip(heading, row, strict=True))
        mine = [r for r in records if r.get("trial") == int(shown["trial"])]
        end = next(r for r in mine if r["kind"] == "ended")
        values = [r["metrics"]["val_accuracy"] for r in mine if r["kind"] == "report"]
        point = next(r["point"] for r in mine if r["kind"] == "asked")
        assert shown["status"] == end["status"]
        best = number(max(values)) if end["status"] != "diverged" else ""
        assert shown["val_accuracy"] == best
        assert shown["epoch"] == (str(values.index(max(values)) + 1) if best else "")
        assert shown["units_0"] == str(point["units"][0]) and shown["layers"] == str(point["layers"])
        assert shown["momentum"] == (number(point["momentum"]) if "momentum" in point else "")
        spent = sum(r.get("seconds", 0.0) for r in mine)
        assert float(shown["seconds"]) == pytest.approx(spent, abs=0.01)


def test_the_answer_is_the_journals(place: Path) -> None:
    records = read(place / FILE)[0]
    ended = {r["trial"]: r["status"] for r in records if r["kind"] == "ended"}
    values: dict[int, float] = {}
    for r in records:
        if r["kind"] == "report" and ended[r["trial"]] != "diverged":
            values[r["trial"]] = max(values.get(r["trial"], 0.0), r["metrics"]["val_accuracy"])
    winner = max(values, key=lambda n: values[n])
    error = of_share(values[winner], 500)
    tied = {n for n, v in values.items() if v >= values[winner] - error}
    first = [values[n] for n in sorted(values) if n < 13]  # a third of the trials are drawn without a model
    computed = sum(r.get("seconds", 0.0) for r in records)

    parsed = Parsed(report(place))
    (data,) = json.loads(parsed.data)["studies"]
    assert (data["best"], data["value"]) == (winner, values[winner])
    assert data["standard_error"] == pytest.approx(error) and set(data["ties"]) == tied
    assert data["baseline"]["value"] == pytest.approx(statistics.median(first))
    assert data["computed_seconds"] == pytest.approx(computed)
    assert data["counts"] == Counter(ended.values())
    improved = [i["value"] for i in data["improvements"]]
    assert improved == sorted(improved) and improved[-1] == values[winner]
    for said in (
        f"Trial {winner} is the best of 40",
        number(values[winner]),
        number(error),
        number(statistics.median(first)),
    ):
        assert said in parsed.text
    assert re.search(rf"\b{len(tied) - 1} other trials? cannot be told apart", parsed.text)
    assert all(f"{count} {status}" in parsed.text for status, count in Counter(ended.values()).items())
    whole = {
        n: [r["metrics"]["val_accuracy"] for r in records if r["kind"] == "report" and r["trial"] == n]
        for n in values
    }
    assert all(
        [v for _, v in data["curves"][str(n)]] == curve for n, curve in whole.items() if len(curve) > 1
    )


def test_each_chart_has_a_mark_for_each_trial(place: Path) -> None:
    html, facts = report(place), facts_of(place)[0]
    assert html.count("data-param") == 8
    for name, shown in re.findall(r'<svg [^>]*data-param="(\w+)">(.*?)</svg>', html):
        dots = [int(n) for numbers in re.findall(r'data-trials="([\d ]+)"', shown) for n in numbers.split()]
        marks = sum(d.count("M") for d in re.findall(r'class="dots[^>]* d="([^"]*)"', shown))
        has = [t.number for t in facts.ranked if name.rpartition("_")[0] == "units" or name in t.point]
        if not name.startswith("units"):
            assert sorted(dots) == sorted(has), name
        assert marks == len(dots)
    assert len(re.findall(r'<path class="line q', html)) == len(facts.ranked)


def test_what_saves_time_is_counted(place: Path) -> None:
    facts = facts_of(place)[0]
    saved = sum(t.seconds / 3 * 6 for t in facts.trials if t.status == "stopped")
    assert facts.saved == pytest.approx(saved)
    assert facts.wall == pytest.approx(facts.computed), "one trial after the other"


def add(place: Path, *records: dict[str, Any]) -> None:
    """More records for a journal, a day after one another."""
    last = read(place / FILE)[0][-1]["time"]
    more = [{"time": last + 86_400.0 * i, **r} for i, r in enumerate(records, 1)]
    (place / FILE).write_bytes((place / FILE).read_bytes() + b"".join(map(line, more)))


def test_time_between_sessions_does_not_count(tmp_path: Path) -> None:
    place = write(tmp_path / "s", study(), sampled(study(), 3, told))
    changed = {"kind": "changed", "study": study().to_dict()}
    session = {"kind": "session", "pid": 2, "host": "h", "argv": []}
    end = read(place / FILE)[0][-1]["time"] + 3 * 86_400 + 5
    add(place, changed, changed, session, {"kind": "over", "time": end})
    facts = facts_of(place)[0]
    assert facts.wall == pytest.approx(facts.computed + 5)
    assert Seen.of(place).timeline.elapsed == pytest.approx(facts.wall)


def test_the_test_metrics_are_those_of_the_trial_that_was_tested(place: Path) -> None:
    winner = facts_of(place)[0].ranked[0].number
    add(place, {"kind": "best", "trial": winner, "epoch": 9, "metrics": {"test_accuracy": 0.123456}})
    assert "test_accuracy 0.1235" in report(place)
    add(place, {"kind": "best", "trial": winner + 1, "epoch": 9, "metrics": {"test_accuracy": 0.654321}})
    assert "0.6543" not in report(place) and facts_of(place)[0].test == {}


def test_epochs_that_were_done_again_do_not_count(tmp_path: Path) -> None:
    trials = [Told({"x": 0.1, "epochs": 3}, [3.0]), Told({"x": 0.2, "epochs": 3}, [0.01, 2.0])]
    place = write(tmp_path / "s", quick(), trials, over=False)
    (records, _) = read(place / FILE)
    again = {"kind": "report", "trial": 1, "epoch": 1, "metrics": {"loss": 1.0}, "seconds": 1.0}
    kept = [r for r in records if (r["kind"], r.get("trial")) != ("ended", 1)]
    (place / FILE).write_bytes(b"".join(map(line, kept)))
    add(place, again, {"kind": "ended", "trial": 1, "status": "completed", "seconds": 0.0, "error": ""})
    seen = Seen.of(place)
    assert [i.value for i in seen.timeline.improvements] == [3.0, 1.0]
    assert seen.facts.value(seen.facts.ranked[0]) == 1.0


def test_numbers_that_json_does_not_have_are_null(place: Path) -> None:
    winner = facts_of(place)[0].ranked[0].number
    add(place, {"kind": "best", "trial": winner, "epoch": 9, "metrics": {"test_loss": math.nan}})
    (data,) = json.loads(Parsed(report(place)).data, parse_constant=pytest.fail)["studies"]
    assert data["test"] == {"test_loss": None}


# --- what a user wrote ----------------------------------------------------------------------------------------------


def test_a_hostile_value_stays_text(tmp_path: Path) -> None:
    space = {"optimizer": ["adam", HOSTILE], "x": {"float": [0.0, 1.0]}}
    hostile = Study(trainable="trainables:Nothing", minimize="loss", trials=40, _recorded=True, space=space)
    trials = sampled(
        hostile, 40, lambda point, rng: Told(point, [{"loss": point["x"], HOSTILE: 1.0}], error=HOSTILE)
    )
    place = write(tmp_path / "s", hostile, trials)
    html = report(place)
    clean = Parsed(report(write(tmp_path / "t", study(), sampled(study(), 40, told))))
    parsed = Parsed(html)
    assert parsed.tags["img"] == 0 and parsed.tags["script"] == clean.tags["script"] == 2
    assert not [a for a in parsed.attributes if a[0].startswith("on")]
    (data,) = json.loads(parsed.data)["studies"]
    assert HOSTILE in data["trials"]["point"]["optimizer"], "and it is whole"
    assert HOSTILE in parsed.text or any(
        HOSTILE in cell for t in parsed.tables.values() for row in t for cell in row
    )


def test_it_needs_nothing_else(place: Path) -> None:
    html = report(place)
    parsed = Parsed(html)
    assert not {"link", "img", "iframe", "a"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a[0] in {"src", "href", "srcset", "action"}]
    assert re.findall(r"https?://[\w./]+", html) == ["http://www.w3.org/2000/svg"], (
        "the name of SVG, no address"
    )
    assert "default-src 'none'" in html


@pytest.mark.parametrize("count, most", [(500, 500_000), (3000, 1_500_000)])
def test_it_stays_small(tmp_path: Path, count: int, most: int) -> None:
    place = write(tmp_path / "s", study(trials=count), sampled(study(), count, told), examples=500)
    assert len(report(place).encode()) < most


USED = """
{
const article = document.querySelectorAll("article")[1], rows = () => [...article.querySelector("table.trials").tBodies[0].rows];
const first = () => rows()[0].cells[0].textContent, type = (text) => {
  const filter = article.querySelector(".filter"); filter.value = text; filter.dispatchEvent(new Event("input")); };
const told = { all: rows().length, best: first() };
type("optimizer=sgd lr<0.01"); told.filtered = rows().length; type("");
const head = [...article.querySelectorAll("table.trials th button")].find((b) => b.textContent === "lr");
head.click(); told.lowest = first(); head.click(); told.highest = first();
article.querySelector(".pick").click(); told.rings = article.querySelectorAll(".hover").length > 0;
const axis = article.querySelector('.brush[data-axis="lr"] rect'), box = axis.getBoundingClientRect();
axis.setPointerCapture = () => {};
for (const [kind, share] of [["pointerdown", 1], ["pointermove", 0.5], ["pointerup", 0.5]])
  axis.dispatchEvent(new PointerEvent(kind, { clientX: box.x + 5, clientY: box.y + box.height * share, pointerId: 1 }));
told.brushed = rows().length;
document.body.dataset.told = JSON.stringify(told);
}
"""


def test_a_browser_runs_its_script(tmp_path: Path) -> None:
    """Its table sorts, filters and follows a range on an axis; of two studies of one name, the second."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser")
    places = [
        write(tmp_path / str(n), study(trials=300), sampled(study(), 300, told, seed=n)) for n in range(2)
    ]
    html = page([Seen.of(p) for p in places]).replace("</body>", f"<script>{USED}</script></body>")
    (tmp_path / "report.html").write_text(html)
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}")
    done = subprocess.run(
        (browser, *options, "--dump-dom", (tmp_path / "report.html").as_uri()),
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found is not None, done.stderr
    shown = json.loads(unescape(found[1]))
    facts = facts_of(places[1])[0]
    by_lr = sorted(facts.trials, key=lambda t: t.point["lr"])
    slow = [t for t in facts.trials if t.point["optimizer"] == "sgd" and t.point["lr"] < 0.01]
    assert (shown["all"], shown["best"]) == (300, str(facts.ranked[0].number))
    assert shown["filtered"] == len(slow) and shown["rings"]
    assert (shown["lowest"], shown["highest"]) == (str(by_lr[0].number), str(by_lr[-1].number))
    assert shown["brushed"] == pytest.approx(sum(t.point["lr"] <= 0.01 for t in facts.trials), abs=3)


# --- studies of all kinds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(([], {}), id="no trial"),
        pytest.param(([Told({"x": 0.5, "epochs": 3}, [], "failed", "ValueError: no")], {}), id="no result"),
        pytest.param(([Told({"x": 0.5, "epochs": 3}, [1.0])], {}), id="one trial"),
        pytest.param(
            ([Told({"x": 0.5, "epochs": 3}, [{"loss": 1.0, "train_loss": 2.0}, {"train_loss": 1.0}])], {}),
            id="an epoch without it",
        ),
        pytest.param(([Told({"x": n / 40, "epochs": 3}, [1.7e308 * (-1) ** n]) for n in range(40)], {}), id="huge"),
        pytest.param(
            ([Told({"x": 10.0 ** (n - 20), "epochs": 9}, [float(n)] * 9) for n in range(40)],
             {"space": {"x": {"float": [1e-300, 1e300], "log": True}, "epochs": 9}}),
            id="wide",
        ),
        pytest.param(([Told({"x": x / 9, "epochs": 3}, [1.0]) for x in range(9)], {}), id="all equal"),
        pytest.param(([Told({"x": x / 9, "epochs": 3}, [float(x)]) for x in range(9)], {"points": [{"x": 0.0}]}), id="baseline"),
    ],
)  # fmt: skip
def test_any_study_has_a_report(tmp_path: Path, kind: Any) -> None:
    trials, more = kind
    place = write(tmp_path / "s", quick(**more), trials)
    parsed = Parsed(report(place))
    assert "The answer" in parsed.text and json.loads(parsed.data)["studies"][0]["study"] == "quick"


def test_several_objectives_have_their_front(tmp_path: Path) -> None:
    two = quick(minimize=["loss", "size"])
    values = [(1.0, 5.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0)]
    trials = [Told({"x": 0.1 * i, "epochs": 3}, [{"loss": a, "size": b}]) for i, (a, b) in enumerate(values)]
    parsed = Parsed(report(write(tmp_path / "s", two, trials)))
    (data,) = json.loads(parsed.data)["studies"]
    assert sorted(data["front"]) == [0, 1, 3]
    front = next(t for caption, t in parsed.tables.items() if caption.startswith("The Pareto front"))
    assert [row[0] for row in front[1:]] == ["0", "1", "3"]


def test_two_studies_lie_over_one_another(tmp_path: Path) -> None:
    places = [
        write(tmp_path / name, study(name=name), sampled(study(), 40, told, seed))
        for seed, name in enumerate(("one", "two"))
    ]
    html = page([Seen.of(p) for p in places])
    parsed = Parsed(html)
    assert [d["study"] for d in json.loads(parsed.data)["studies"]] == ["one", "two"]
    comparison = html[: html.index("<article")]
    assert comparison.count('class="best s0"') == 2 == comparison.count('class="best s1"')
    assert 'data-param="lr"' in comparison


def test_a_notebook_shows_it(place: Path) -> None:
    result = raysweep.load(place)
    shown = result._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and 'sandbox="allow-scripts"' in shown
    assert result.frame()["trial"].iloc[0] == facts_of(place)[0].ranked[0].number
    assert len(result.curves()) == sum(len(t.reports) for t in result.trials)


# --- statistics -----------------------------------------------------------------------------------------------------


def trial(n: int, value: float, point: dict[str, Any] | None = None) -> Trial:
    return Trial(n, point or {}, "completed", (Report(1, {"loss": value}, 0.0),))


@pytest.mark.parametrize("count", [40, 200])
@pytest.mark.parametrize("seed", range(3))
def test_importance_is_that_of_optuna(count: int, seed: int) -> None:
    import optuna

    from raysweep.search.samplers.optuna import _distribution
    from raysweep.study.coordinates import raw_numbers

    space, rng = Space(SPACE), random.Random(seed)
    points = [space.sample(rng) for _ in range(count)]
    values = [
        abs(math.log10(p["lr"]) + 2) + (p.get("momentum", 0.5) - 0.2) ** 2 + rng.gauss(0, 0.1) for p in points
    ]
    theirs = optuna.create_study()
    for point, value in zip(points, values, strict=True):
        raw = [(c.label, r, _distribution(c)) for c, r in raw_numbers(space, point)]
        theirs.add_trial(
            optuna.trial.create_trial(
                value=value, params={n: r for n, r, _ in raw}, distributions={n: d for n, _, d in raw}
            )
        )
    known = optuna.importance.get_param_importances(theirs)
    trials = [trial(n, v, p) for n, (v, p) in enumerate(zip(values, points, strict=True))]
    ours = {i.name: i for i in importances(space, trials, Objective("loss", False))}
    assert ours.keys() == known.keys()
    # A value in the middle between two steps of the grid may be rounded differently.
    assert all(ours[name].value == pytest.approx(known[name], abs=0.01) for name in known)
    assert count < 200 or max(ours.values(), key=lambda i: i.value).name == "lr"
    assert all(i.low <= i.value <= i.high for i in ours.values())


def test_few_trials_say_nothing_of_importance() -> None:
    space = Space({"x": {"float": [0.0, 1.0]}})
    trials = [trial(n, float(n), {"x": n / 40}) for n in range(40)]
    assert importances(space, trials[:29], Objective("loss", False)) == []
    assert importances(space, trials[:30], Objective("loss", False))


def test_luck_is_what_the_best_of_equals_has() -> None:
    """Of trials that are all equally good, the best looks better by the expected maximum of their noise; of trials
    that are far apart, not at all. On average: what is observed holds the noise already."""
    rng, objective, noise = np.random.default_rng(1), Objective("loss", False), Noise(0.1)
    for count in (20, 100):
        expected = rng.normal(0, 0.1, (20_000, count)).max(1).mean()
        observed = [[trial(n, 1.0 + rng.normal(0, 0.1)) for n in range(count)] for _ in range(40)]
        estimated = statistics.fmean(optimism(trials, objective, noise) for trials in observed)
        assert estimated == pytest.approx(expected, rel=0.15)
    apart = [trial(n, float(n)) for n in range(20)]
    assert optimism(apart, objective, noise) == pytest.approx(0.0, abs=0.02)
    assert optimism(apart, objective, Noise()) == 0.0


def test_random_search_is_expected_to_have_the_mean_of_the_best_of_so_many(tmp_path: Path) -> None:
    place = write(tmp_path / "s", study(), sampled(study(), 40, told))
    facts = facts_of(place)[0]
    values = [facts.value(t) for t in facts.start]
    rng = random.Random(0)
    for k in (1, 3, len(values)):
        drawn = statistics.fmean(max(rng.choices(values, k=k)) for _ in range(20_000))
        assert facts.random[k - 1] == pytest.approx(drawn, abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_that_of_scipy(seed: int) -> None:
    from scipy.stats import spearmanr

    rng = random.Random(seed)
    a, b = ([rng.randint(0, 9) for _ in range(30)] for _ in range(2))
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman([1.0, 1.0], [1.0, 2.0]) == 0.0


def test_rungs_agree_as_the_curves_say(tmp_path: Path) -> None:
    rng = random.Random(0)
    ends = [rng.random() for _ in range(12)]
    trials = [Told({"x": 0.0, "epochs": 9}, [1 - e, rng.random(), e, *[e] * 6]) for e in ends]
    wide = quick(space={"x": {"float": [-1.0, 1.0]}, "epochs": 9}, scheduler={"name": "asha", "grace": 1})
    facts = facts_of(write(tmp_path / "s", wide, trials))[0]
    assert [(r.epoch, r.trials) for r in facts.rungs] == [(1, 12), (3, 12)]
    assert facts.rungs[0].agreement == pytest.approx(-1.0) and facts.rungs[1].agreement == pytest.approx(1.0)


def test_noise_is_that_of_examples_and_of_executions(tmp_path: Path) -> None:
    point = {"x": 0.0, "epochs": 3}
    spread = [Told(point, [{"accuracy": 0.9, "accuracy_std": s}]) for s in (0.03, 0.04)]
    repeated = quick(maximize="accuracy", minimize=None, repeats=4)
    facts: Facts = facts_of(write(tmp_path / "s", repeated, spread, examples=100))[0]
    seeds = math.sqrt((0.03**2 + 0.04**2) / 2 / 4)
    sampling = of_share(0.9, 100)
    assert facts.noise.sampling == pytest.approx(sampling) and facts.noise.seeds == pytest.approx(seeds)
    assert facts.noise.error == pytest.approx(math.hypot(sampling, seeds))
