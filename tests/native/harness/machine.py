"""What the machine and the programs' memory did meanwhile."""

import re

from .processes import descendants

TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def cpu_times():
    with open("/proc/stat", encoding="ascii") as f:
        return [int(n) for n in f.readline().split()[1:1 + len(TICKS)]]


class Cpu:
    """Share of both CPUs that nobody used since it was made."""

    def __init__(self):
        self.since = cpu_times()

    def idle_share(self):
        spent = [now - then for now, then in zip(cpu_times(), self.since)]
        total = sum(spent)
        return (spent[TICKS.index("idle")] + spent[TICKS.index("iowait")]) / total if total else 0.0


def _mapped_kib(pid, guest):
    """Pss of a process without the mappings whose name has `guest` in it."""
    kib, skip = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                skip = guest in line
            elif line.startswith("Pss:") and not skip:
                kib += int(line.split()[1])
    return kib


def own_mib(pid, guest="native-source"):
    """Own memory of a process and its children: proportional, without the guest's."""
    kib = 0
    for each in descendants(pid):
        try:
            kib += _mapped_kib(each, guest)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return kib / 1024
