"""The mistakes a user can make. Every one is a sentence; none needs a traceback."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is (`space.lr.low`) and the rule it breaks."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def under(self, prefix: str) -> Problem:
        """The same problem seen from one level further out."""
        dot = "" if not self.where or self.where.startswith("[") else "."
        return Problem(f"{prefix}{dot}{self.where}", self.what)


class RaysweepError(Exception):
    """Something the user can fix; the message says how. The command line exits with `code`."""

    code = 1


class Infeasible(Exception):
    """Raised by a trainable whose point cannot be trained ("a kernel larger than the image"): the trial ends
    without counting as an error, and the search learns to avoid such points."""


class StudyError(RaysweepError):
    """A study, its space or its data is not what the language allows. Holds every problem found."""

    code = 2

    def __init__(self, problems: Iterable[Problem], source: str | None = None):
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(f"{source}: {p}" if source else str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[StudyError], tuple[tuple[Problem, ...], str | None]]:
        # Exceptions pickle by their message alone; this one crosses processes with its problems.
        return type(self), (self.problems, self.source)


class DataError(RaysweepError):
    """The data cannot be obtained, or is not what the study says it is."""

    code = 2


class ClusterError(RaysweepError):
    """The cluster cannot do what is asked of it."""


class JournalError(RaysweepError):
    """The study's folder belongs to another study, or to a process that is still running."""


class StorageError(RaysweepError):
    """The storage for a study's mirror cannot be used."""


class TrackingError(RaysweepError):
    """MLflow cannot be used as asked."""


HIDDEN = "***"
_USER = re.compile(r"//(?:[^\s/]*@|[^\s/:@]+:\S*@)")  # a password may hold unescaped characters
_QUERY = re.compile(
    r"([?&;][^=&;\s]*(?:pass|pwd|token|secret|key|sig|auth|cred)[^=&;\s]*=)[^&;\s]*", re.IGNORECASE
)


def scrubbed(text: str) -> str:
    """The text with the passwords removed from every URI in it, both before the host and in the query."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"//{HIDDEN}@", text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'lr'?`, or the list of known names if none is close."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.65)  # a silly hint is worse than none
    return f" Did you mean '{near[0]}'?" if near else f" One of: {', '.join(names)}."
