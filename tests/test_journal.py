"""The journal: whatever happens to the file, its longest valid prefix is what counts."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from raysweep.errors import JournalError
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import line, parse, read
from raysweep.storage.lock import in_use
from raysweep.study.objective import Objective
from raysweep.trial import Report, Trial, best, ranking

RECORDS: list[dict[str, Any]] = [
    {"kind": "study", "time": 1.0, "id": "a", "study": {"name": "ä"}},
    {"kind": "asked", "time": 2.0, "trial": 0, "point": {"lr": 0.1 + 0.2, "u": [1, 2]}, "seeds": [5]},
    {"kind": "started", "time": 3.0, "trial": 0, "worker": "w"},
    {"kind": "report", "time": 4.0, "trial": 0, "epoch": 1, "metrics": {"loss": 0.5}, "seconds": 1.0},
    {"kind": "report", "time": 5.0, "trial": 0, "epoch": 2, "metrics": {"loss": 0.25}, "seconds": 1.5},
    {"kind": "ended", "time": 6.0, "trial": 0, "status": "completed", "seconds": 0.5, "error": ""},
]


def test_a_journal_cut_at_any_byte_is_its_longest_valid_prefix() -> None:
    data = b"".join(map(line, RECORDS))
    ends = [end for _, end in parse(data)]
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in ends)
        assert [r for r, _ in parse(data[:cut])] == RECORDS[:whole]


def test_a_journal_with_any_byte_changed_keeps_what_stands_before_it() -> None:
    data = b"".join(map(line, RECORDS))
    ends = [end for _, end in parse(data)]
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        before = sum(end <= at for end in ends)
        assert [r for r, _ in parse(broken)] == RECORDS[:before]


def test_what_is_torn_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(map(line, RECORDS[:3])) + line(RECORDS[3])[:-5])
    journal = Journal(tmp_path)
    journal.append("ended", trial=0, status="failed", seconds=0.0, error="x")
    journal.close()
    records, _ = read(path)
    assert records[:3] == RECORDS[:3]
    assert [r["kind"] for r in records[3:]] == ["ended"]


def test_the_journal_is_read_on_from_where_one_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(map(line, RECORDS[:2])) + line(RECORDS[2])[:9])
    first, offset = read(path)
    path.write_bytes(b"".join(map(line, RECORDS)))
    rest, _ = read(path, offset)
    assert first + rest == RECORDS


def test_a_trial_is_the_fold_of_its_records() -> None:
    history = History(RECORDS)
    assert history.trials == [
        Trial(
            number=0,
            point={"lr": 0.30000000000000004, "u": [1, 2]},
            status="completed",
            reports=(Report(1, {"loss": 0.5}, 4.0), Report(2, {"loss": 0.25}, 5.0)),
            seeds=(5,),
            attempts=1,
            worker="w",
            asked=2.0,
            started=3.0,
            finished=6.0,
            seconds=3.0,
        )
    ]


def test_a_later_attempt_that_repeats_epochs_replaces_them() -> None:
    again = [RECORDS[2], {**RECORDS[4], "epoch": 2, "metrics": {"loss": 0.2}, "time": 9.0}]
    (trial,) = History([*RECORDS[:5], *again]).trials
    assert trial.attempts == 2
    assert [(r.epoch, r.metrics["loss"]) for r in trial.reports] == [(1, 0.5), (2, 0.2)]


@pytest.mark.parametrize(
    "record", [{"kind": "over", "time": 9.0}, {"kind": "session", "time": 9.0, "pid": 1}]
)
def test_what_ran_when_a_session_ended_waits_for_the_next(record: dict[str, Any]) -> None:
    (trial,) = History([*RECORDS[:5], record]).trials
    assert (trial.status, len(trial.reports)) == ("waiting", 2)
    (trial,) = History([*RECORDS, record]).trials
    assert trial.status == "completed"


def test_the_fold_of_more_records_is_the_fold_continued() -> None:
    history = History()
    for count, record in enumerate(RECORDS, 1):
        history.add(record)
        assert history.trials == History(RECORDS[:count]).trials


def _hold(folder: Path, held: Any, release: Any) -> None:
    journal = Journal(folder)
    journal.begin_session([])
    held.set()
    release.wait(30)
    journal.close()


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(30)
    assert in_use(tmp_path / "journal.jsonl")
    with pytest.raises(JournalError, match=f"is being run by process {process.pid}"):
        Journal(tmp_path)
    release.set()
    process.join(30)
    assert not in_use(tmp_path / "journal.jsonl")
    Journal(tmp_path).close()


def trial(number: int, values: list[float], status: Any = "completed") -> Trial:
    reports = tuple(Report(i, {"loss": v}, 0.0) for i, v in enumerate(values, 1))
    return Trial(number, {}, status, reports)


def test_the_best_trial_is_ranked_by_its_best_epoch_so_far_unless_its_end_says_that_none_counts() -> None:
    trials = [
        trial(0, [0.5, 0.3, 0.9]),
        trial(1, [0.4, 0.3]),
        trial(2, [0.1], "failed"),
        trial(3, [0.7], "running"),
        trial(4, []),
        trial(5, [0.35], "stopped"),
        trial(6, [0.2], "diverged"),
        trial(7, [0.6], "paused"),
    ]
    down, up = Objective("loss", False), Objective("loss", True)
    assert [t.number for t in ranking(trials, down)] == [0, 1, 5, 7, 3]  # a tie goes to the earlier
    assert [t.number for t in ranking(trials, up)] == [0, 3, 7, 1, 5]
    scores = [t.score(down) for t in trials]
    assert [s and s.value for s in scores] == [0.3, 0.3, None, 0.7, None, 0.35, None, 0.6]
    assert [s.final for s in scores if s] == [True, True, False, True, False]
    winner = best(trials, down)
    assert winner is not None and winner.best(down) == Report(2, {"loss": 0.3}, 0.0)
    assert best([trials[2], trials[4], trials[6]], down) is None
