"""What a trial uses of its machine: CPU time, and the peak memory of its process and of its GPU."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

STATUS, PEAKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MB = 1e6


class Meter:
    """Measures this process. Trials that it trains together share its CPU time, and have one peak of memory."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()

    def begin(self) -> None:
        """A trial begins in this process, which runs no other one: its peaks begin, too."""
        with suppress(OSError):  # see proc(5); without it, the peak is that of the whole life of the process
            PEAKS.write_text("5")
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()

    def lap(self, trials: int = 1) -> dict[str, float]:
        """What each of so many trials has used: `cpu` seconds since the last lap; `memory` and, on a GPU,
        `gpu_memory`, the peaks in megabytes since it began."""
        began, self._cpu = self._cpu, _cpu_seconds()
        used = {"cpu": round((self._cpu - began) / trials, 4), "memory": round(_peak() / MB, 1)}
        if cuda := _cuda():
            used["gpu_memory"] = round(cuda.max_memory_reserved() / MB, 1)
        return used


def _cpu_seconds() -> float:
    """CPU time of this process, and of its children that have ended."""
    return sum(os.times()[:4])


def _peak() -> float:
    """The most memory that this process has had, in bytes."""
    if STATUS.exists():
        line = next((r for r in STATUS.read_text().splitlines() if r.startswith("VmHWM:")), "VmHWM: 0 kB")
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _cuda() -> Any:
    """torch.cuda if this process has used a GPU, else None; without importing torch, which may not be needed."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
