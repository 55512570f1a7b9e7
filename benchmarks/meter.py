"""What processes use: CPU by groups, and memory, as the kernel counts them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil


class Meter:
    """CPU that each group has used since `start`. A group is one process, by its id, and all that it has started."""

    def __init__(self, groups: Mapping[str, int]) -> None:
        self._groups = groups

    def start(self) -> None:
        self._before = {name: _cpu(pid) for name, pid in self._groups.items()}

    def seconds(self) -> dict[str, float]:
        used = {}
        for name, pid in self._groups.items():
            before = self._before[name]
            used[name] = sum(now - before.get(member, 0.0) for member, now in _cpu(pid).items())
        return used


def memory(pid: int, *, peak: bool = False) -> float:
    """MiB of this one process that are resident, or were at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:" if peak else "VmRSS:"))
    return int(kilobytes) / 1024


def _cpu(pid: int) -> dict[int, float]:
    seconds = {}
    for member in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            seconds[member.pid] = times.user + times.system
    return seconds


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
