"""How many cores this process may compute on, and whether it is still the same one."""

import os
import sys
from pathlib import Path

from fsrst.errors import FsrstError

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """Physical cores that this process may run on; logical ones where the system does not tell."""
    return max(1, min(_cores(), _quota()))


def check_process(process: int) -> None:
    """Refuse to compute in another process than ``process``, in which threads were started: after a
    fork they are not there, and it would wait for them.

    Raises
    ------
    FsrstError
        If this is another.
    """
    if os.getpid() != process:
        raise FsrstError(
            "this upscaler was opened in another process (fork): open one in each, or use"
            " backend onnxruntime"
        )


def _quota() -> int:
    """Cores' time that a container may use (`docker --cpus`), rounded up; many without a limit."""
    try:
        share, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return sys.maxsize
    return -(-share // period)


def _cores() -> int:
    if not hasattr(os, "sched_getaffinity"):  # only Linux has it
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(siblings.format(cpu)).read_text() for cpu in allowed})
    except OSError:
        return len(allowed)
