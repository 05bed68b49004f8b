"""The base of our callbacks of Ray Tune."""

from __future__ import annotations

from typing import Any

from ray import tune


class Callback(tune.Callback):  # type: ignore[misc]
    """Ray Tune pickles callbacks for snapshots, which we do not use: the pickled copy does nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()
