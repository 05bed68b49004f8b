"""What runs beside a search cannot die unseen."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import until
from raysweep import JournalError
from raysweep.errors import StorageError
from raysweep.journal import mirror
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE
from raysweep.storage import disk, lock
from raysweep.storage.background import Background


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), KeyError("host"), ValueError("torn")])
def test_a_step_that_fails_is_told_counted_and_tried_again(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    failing, done = True, 0

    def step() -> None:
        nonlocal done
        if failing:
            raise error
        done += 1

    beside = Background("The step", step, 0.001, said.append).start()
    until(lambda: beside.failures > 3)
    assert len(said) == 1 and said[0].startswith("The step: ") and type(error).__name__ in said[0]
    assert beside.error
    failing = False
    until(lambda: done > 3)
    assert beside.error is None and beside.close(10)
    shown = "Traceback" in capsys.readouterr().err
    assert shown == (not isinstance(error, OSError)), "a bug shows where it is"


def test_who_cannot_be_told_does_not_end_it() -> None:
    def say(text: str) -> None:
        raise BrokenPipeError

    def step() -> None:
        raise ZeroDivisionError

    beside = Background("The step", step, 0.001, say).start()
    until(lambda: beside.failures > 3)
    assert beside.close(10)


# --- the heartbeat ----------------------------------------------------------------------------------------------------


def test_a_share_that_is_away_for_a_moment_does_not_end_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysweep.journal.journal.HEARTBEAT", 0.01)
    journal = Journal(tmp_path / "study")

    def away(*arguments: Any, **more: Any) -> Any:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as gone:
        gone.setattr(Path, "replace", away)
        gone.setattr(Path, "unlink", away)
        until(lambda: journal._heart.failures > 3)
    before = lock.holder(tmp_path / "study")
    until(lambda: lock.holder(tmp_path / "study") != before)
    journal.append("said", text="it goes on")
    journal.close()


def another(fence: int, age: float = 0.0) -> str:
    """What another machine writes that has taken the study."""
    return json.dumps(
        {"host": "elsewhere", "pid": 1, "fence": fence, "heartbeat": time.time() - age, "token": "other"}
    )


def test_who_gave_no_sign_of_life_writes_nothing_before_it_is_known_whose_the_study_is(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "study")
    journal._beaten -= lock.STALE
    journal.append("said", text="nobody took it")
    assert time.time() - journal._beaten < lock.STALE / 2, "it was said again that we are alive"
    journal._beaten -= lock.STALE  # as after a night asleep
    (tmp_path / "study" / lock.FILE).write_text(another(journal.fence + 1))
    size = journal.path.stat().st_size
    with pytest.raises(JournalError, match="was taken over by process 1 on elsewhere"):
        journal.append("said", text="too late")
    assert journal.path.stat().st_size == size
    journal.close()


def test_two_processes_of_one_host_name_and_number_are_two(tmp_path: Path) -> None:
    """Containers."""
    journal = Journal(tmp_path / "study")
    now = lock.holder(tmp_path / "study")
    assert now is not None and (now.host, now.pid, now.token) == (os.uname().nodename, os.getpid(), lock.ME)
    twin = {**vars(now), "fence": now.fence + 1, "token": "twin"}
    (tmp_path / "study" / lock.FILE).write_text(json.dumps(twin))
    assert journal._lock.beat() is not None
    journal.close()


def test_the_age_of_a_heartbeat_is_told_by_the_files_own_clock(tmp_path: Path) -> None:
    """A holder whose clock is an hour behind is alive."""
    Journal(tmp_path / "study").close()
    path = tmp_path / "study" / lock.FILE
    path.write_text(another(7, age=3600))
    with pytest.raises(JournalError, match="is being run by process 1 on elsewhere"):
        Journal(tmp_path / "study")
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    Journal(tmp_path / "study").close()


# --- a mirror ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Journal, mirror.Mirror, list[str]]:
    """A journal, its mirror in a folder, and what that says."""
    monkeypatch.setattr(mirror, "EVERY", 0.05)
    monkeypatch.setattr(mirror, "DRAIN", 2.0)
    said: list[str] = []
    journal = Journal(tmp_path / "study")
    return journal, mirror.Mirror(tmp_path / "study", (tmp_path / "mirror").as_uri(), said.append), said


@pytest.mark.parametrize("torn", [b"", b'{"host": "x"', b"[]", b'{"host": "x"}'])
def test_a_torn_file_of_the_mirror_s_does_not_end_the_copying(
    torn: bytes, copied: tuple[Journal, mirror.Mirror, list[str]], tmp_path: Path
) -> None:
    journal, copy, said = copied
    copy.start()
    (tmp_path / "mirror" / "study" / "holder.json").write_bytes(torn)
    for i in range(100):
        journal.append("said", text=f"line {i}")
    journal.close()
    copy.close()
    assert (tmp_path / "mirror" / "study" / "journal" / "000000").read_bytes() == journal.path.read_bytes()
    assert said == []


def test_a_journal_that_grows_while_it_is_copied_is_copied_from_its_beginning(
    copied: tuple[Journal, mirror.Mirror, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fetches it a moment later has a prefix of it, and not its last lines."""
    journal, copy, _ = copied
    write, grows = copy._write, True

    def slow(name: str, data: bytes) -> None:
        nonlocal grows
        write(name, data)
        if grows and name.startswith("journal/"):
            grows = False
            journal.append("said", text="meanwhile")

    monkeypatch.setattr(copy, "_write", slow)
    for i in range(3):
        journal.append("said", text=f"line {i}")
        grows = True
        copy._journal()
        held = (tmp_path / "mirror" / "study" / "journal" / "000000").read_bytes()
        assert held and journal.path.read_bytes().startswith(held)
    journal.close()


def test_a_mirror_that_cannot_be_written_to_says_how_far_it_is(
    copied: tuple[Journal, mirror.Mirror, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, copy, said = copied

    def broken(name: str, data: bytes) -> None:
        raise KeyError("nobody expects this")

    monkeypatch.setattr(copy, "_write", broken)
    copy.start()
    journal.append("said", text="a line")
    until(lambda: said)
    journal.close()
    copy.close()
    assert "falls behind" in said[0] and "nobody expects this" in said[0]
    assert said[-1].endswith("Bring it the rest with: raysweep resume study")


def test_a_mirror_writes_only_into_the_study_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Journal(tmp_path / "source")
    source.append("said", text="a line")
    source.close()
    there = tmp_path / "there" / "study" / "journal"
    there.mkdir(parents=True)
    (there / "000000").write_bytes(source.path.read_bytes())
    monkeypatch.setattr(mirror, "_names", lambda files, base: ["best/../../../victim.txt"])
    with pytest.raises(StorageError, match="outside the study"):
        mirror.fetch(tmp_path / "studies" / "study", (tmp_path / "there").as_uri())
    assert not list(tmp_path.rglob("victim.txt"))
    assert not (tmp_path / "studies" / "study" / FILE).exists()


# --- whole files ------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write(path, "first")
    assert path.read_text() == "first" and path.stat().st_mode & 0o077 == 0
    with pytest.raises(RuntimeError), disk.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "first" and [p.name for p in tmp_path.iterdir()] == ["file"]
