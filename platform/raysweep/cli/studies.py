"""Commands on whole studies: ls, mv, rm."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.base import cli, console, open_study, store_for
from raysweep.cli.options import again, folder_option, json_option, say, study_argument, tracking_option
from raysweep.cli.remote import StudyCommand
from raysweep.errors import RaysweepError
from raysweep.journal.records import FILE

if TYPE_CHECKING:
    from raysweep.journal.history import History


PATIENCE = 15.0  # seconds that a publisher gets to end: it says that all is published before it does


@cli.command(cls=StudyCommand)
@folder_option
@json_option
def ls(folder: Path, as_json: bool) -> None:
    """List the studies of a folder, the latest first.

    \b
    raysweep ls
    """
    found = [_about(path.parent) for path in folder.glob(f"*/{FILE}")]
    found.sort(key=lambda about: -about["latest"])
    if as_json:
        click.echo(json.dumps(found))
    elif found:
        _print(found)
    else:
        say(f"there are no studies in {folder}")


def _about(place: Path) -> dict[str, Any]:
    """What there is to know of a study at a glance."""
    from raysweep.journal.history import History
    from raysweep.journal.records import read

    about: dict[str, Any] = {"study": place.name, "state": "not started", "trials": 0, "size": _size(place)}
    try:
        about["latest"] = (place / FILE).stat().st_mtime
        history = History(read(place / FILE)[0])
        return about | (_told(place, history) if history.study else {})
    except (RaysweepError, OSError, ValueError, LookupError):  # of another version, or no journal at all
        return {"latest": 0.0, **about, "state": "unreadable"}


def _told(place: Path, history: History) -> dict[str, Any]:
    from raysweep.journal.journal import running
    from raysweep.study.study import UNBOUNDED, Study
    from raysweep.trial import asked, best

    study = Study.recorded(history.study["study"])
    winner = best(history.trials, study.objective)
    score = winner.score(study.objective) if winner else None
    return {
        "state": "running" if running(place) else "complete" if history.complete else "stopped",
        "trials": asked(t for t in history.trials if t.ended),
        "target": study.target if study.target < UNBOUNDED else None,
        "metric": study.objective.metric,
        "best": score.value if score else None,
        "latest": history.latest,
    }


def _size(place: Path) -> int:
    """The bytes of a folder, which may be written to meanwhile."""
    total = 0
    for path in place.rglob("*"):
        with suppress(OSError):  # it has just been deleted
            total += path.stat().st_size if path.is_file() else 0
    return total


def _print(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from raysweep.report.tables import number

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading, side in (("study", "left"), ("state", "left"), ("trials", "right"), ("best", "left")):
        shown.add_column(heading, justify=side)  # type: ignore[arg-type]
    shown.add_column("when")
    shown.add_column("MB", justify="right")
    for about in found:
        of = f"/{about['target']}" if about.get("target") else ""
        best = f"{about['metric']} {number(about['best'])}" if about.get("best") is not None else ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["latest"]))
        size = f"{about['size'] / 1e6:,.1f}"
        shown.add_row(about["study"], about["state"], f"{about['trials']}{of}", best, when, size)
    console().print(shown)


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("name")
@folder_option
@tracking_option
def mv(study: str, name: str, folder: Path, tracking: str | None) -> None:
    """Rename a study: its folder, its runs in MLflow, its registered model.

    \b
    raysweep mv digits_mlp digits_small
    """
    from raysweep.journal.journal import Journal
    from raysweep.storage import disk
    from raysweep.study.study import Study
    from raysweep.tracking import studies
    from raysweep.tracking.store import OFF, check_store

    place, history, what = open_study(folder, study)
    renamed = Study.recorded({**what.to_dict(), "name": name})  # which says if the name is not allowed
    target = place.parent / name
    if target.exists():
        raise RaysweepError(f"{target} is there already. Choose another name")
    uri = store_for(place, history, tracking)
    check_store(uri)
    journal = Journal(place)  # which fails if the study is running
    try:
        _see_that_it_is_published(place)
        if uri != OFF:
            studies.rename(uri, history.study, what, name)
        journal.append("changed", study=renamed.to_dict())
        disk.write(place / "study.yaml", renamed.to_yaml())
    finally:
        journal.close()
    place.rename(target)
    click.echo(f"{study} is {name} now: raysweep status {name}{again(folder)}")


def _see_that_it_is_published(place: Path) -> None:
    """Raise RaysweepError while a publisher still writes to MLflow what the study's journal holds."""
    import fcntl

    if not (place / "tracking.lock").exists():
        return
    deadline = time.monotonic() + PATIENCE
    with (place / "tracking.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > deadline:
                    what = f"{place.name} is still being brought to MLflow. Try again in a minute"
                    raise RaysweepError(what) from None
                time.sleep(0.1)


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@tracking_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(study: str, folder: Path, tracking: str | None, yes: bool) -> None:
    """Delete a study: its folder, its runs in MLflow, its registered model.

    MLflow keeps deleted runs in its trash, with their artifacts, until `mlflow gc` is run.

    \b
    raysweep rm digits_mlp
    """
    import shutil

    from raysweep.journal.history import History
    from raysweep.journal.journal import Journal
    from raysweep.journal.records import read
    from raysweep.tracking import studies
    from raysweep.tracking.store import OFF, check_store

    place = folder / study
    if not (place / FILE).exists():
        # By its folder or file; this says what there is if there is no such study.
        place, _, _ = open_study(folder, study)
    history = History(read(place / FILE)[0])
    uri = store_for(place, history, tracking) if history.study else OFF
    check_store(uri)
    if not yes:
        where = "" if uri == OFF else ", its runs in MLflow and its model"
        click.confirm(f"Delete {place} with {len(history.trials)} trials{where}?", abort=True)
    journal = Journal(place)  # which fails if the study is running
    try:
        _see_that_it_is_published(place)
        if uri != OFF:
            studies.delete(uri, history.study["id"], history.study["study"]["name"])
        gone = place.with_name(f".{place.name}.deleted")  # at once: what is left after a kill is no study
        place.rename(gone)
    finally:
        journal.close()
    shutil.rmtree(gone)
    click.echo(f"{study} is deleted")
