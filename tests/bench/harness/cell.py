"""A cell in exact mode: one emulated host moves a guest to itself, in virtual time. What it prints is measure.py's."""

import os
import shutil

from harness import programs
from exactmove import PREPARE, Exact, job

READY = "bench: waits"
# A link has two directions, and lo only one queue: what comes from the destination, port 7003, has a queue of its own. Frames of
# 9000 bytes, as the lab's link has them, in bursts of four at most, as a NIC's segmentation offload makes them: single ones
# would wake all programs of the chain a thousand times a second, bursts of 64 KiB each hold up what comes after for 7 ms.
LINK = """
ip link set lo mtu 9000 gso_max_size 36000
tc qdisc replace dev lo root handle 1: prio bands 2 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
tc qdisc add dev lo parent 1:1 handle 10: netem %(link)s limit 1000
tc qdisc add dev lo parent 1:2 handle 20: netem %(link)s limit 1000
tc filter add dev lo parent 1: protocol ip u32 match ip sport 7003 0xffff flowid 1:2
"""
BEFORE = """
mark() { echo "$@" | lab-agent stamp | sed 's/^/mark /'; }
tell() { echo "$@" >$(xenstore-read /local/domain/$(xl domid g)/console/tty); }
tell work %(workload)s
timeout 300 lab-agent follow /var/log/xen/console/guest-g.log '"type":"start"' >/dev/null || \
{ cat /var/log/xen/console/guest-g.log; exit 1; }
""" + LINK + """
%(warm)smark undisturbed
usleep %(undisturbed_us)d
"""
# The rate is back to what it was some seconds after the last page has come; then memory is looked at, which disturbs it.
MEANWHILE = """
mark starts
wait $xl
received
mark ended
if tail -n 1 /tmp/xl.log | grep -q 'exit status 0'; then
    tc -s qdisc show dev lo | grep -A 1 netem | sed 's/^/link /'
    sleep %(settle_s)s
    mark settled
    tell verdict
    timeout 60 lab-agent follow /var/log/xen/console/guest-g--incoming.log 'bench: verdict ends' | grep '^bench: '
fi
"""
# what receive says of itself, for people
AFTER = "sed 's/^/log /' /var/log/xen/postcopy-receive-g.log 2>/dev/null; true"
WAITED_BY_MOVE_S = 5  # what exactmove.py waits before it moves a guest, undisturbed as well
# Debian's library, for modes that ask for it: in place of ours for all that the destination starts, device models above all
PREPARE_LIBRARY = "mkdir /debian; cp libxenforeignmemory.so.1 /debian/"
DEBIANS = "' LD_LIBRARY_PATH='/debian"  # more of the destination's environment, after receive's options


def how(matrix, cell):
    """The arguments of job() that make a cell."""
    warm = matrix.warm_s(cell)
    values = {"workload": cell.workload, "warm": f"sleep {warm}\n" if warm else "", "link": matrix["link"],
              "settle_s": matrix["settle_s"],
              "undisturbed_us": 1e6 * max(0, matrix["undisturbed_s"] - WAITED_BY_MOVE_S)}
    return {"options": cell.way["options"], "receive": cell.way["receive"] + (DEBIANS if cell.way["library"] == "debian" else ""),
            "weight": matrix["weight"], "before": BEFORE % values, "meanwhile": MEANWHILE % values, "after": AFTER}


def scripts(matrix, cell):
    """All that the jobs of a cell run in dom0, as text, and the machines that they run on."""
    return [PREPARE, PREPARE_LIBRARY, job(**how(matrix, cell)), machines(matrix, cell.kind)]


def machines(matrix, kind):
    """The options of a host and of its guest."""
    guest = ["--type", "hvm", "--disk", "1"] if kind == "hvm" else []
    return {"host": ["--mem", str(2 * matrix["memory"] + 2048), *matrix["host"]],
            "guest": [*guest, "--vcpus", str(matrix["vcpus"]), *(word for line in matrix["cfg"] for word in ("--cfg", line))]}


class Host:
    """A host on which a guest of that type waits for work; the moves of its cells start from there."""

    def __init__(self, matrix, kind):
        self.matrix, self.kind = matrix, kind
        self.payload = os.path.join(programs.TOP, "build/bench/payload", f"{matrix.name}-{kind}-{os.getpid()}")
        debians = any(way["library"] == "debian" for way in matrix.ways().values())
        self.exact = Exact(f"bench-{matrix.name}-{kind}", matrix["memory"], payload=self.payload, ready=READY,
                           **machines(matrix, kind), files=[programs.LIBRARY] if debians else [], prepare=PREPARE_LIBRARY if debians else "")

    def __enter__(self):
        programs.payload(self.payload, self.matrix)
        try:
            self.exact.__enter__()
        finally:
            shutil.rmtree(self.payload)
        return self

    def __exit__(self, *exc):
        return self.exact.__exit__(*exc)

    def move(self, cell):
        """Runs it to its end; returns the Move."""
        return self.exact.start(cell.name, **how(self.matrix, cell)).wait()
