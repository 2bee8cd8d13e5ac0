"""QEMU's own post-copy of a guest that touches the same pages in the same order: payload/touch.c, on an emulated CPU.

Durations are the guest's own, by its CPU's clock, as the native guest's are: from a touch to what it returns.
"""

import json
import os
import re
import socket
import tempfile
import time

from .link import RECEIVER
from .machine import Cpu
from .processes import BIN, Failed, Programs

PORT = 4444
STEPS = 16
FLOOR_US = 25  # a touch that takes less did not wait: an emulated one takes some microseconds
OTHER_MIB = 64  # of the guest's memory: what is not touched
SLOW = 1 << 20  # bytes a second of what is sent before the guest runs: next to nothing
CPU_MHZ = 2500  # for the floor only; the clock's rate is measured


class Monitor:
    """QMP."""

    def __init__(self, path, program):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if program.process.poll() is not None:
                    raise Failed(f"{program.name} ended at once") from None
                time.sleep(0.01)
        self.lines = self.socket.makefile("rw", encoding="utf-8")
        self.events = []
        self._next()
        self.call("qmp_capabilities")

    def _next(self):
        line = self.lines.readline()
        if not line:
            raise Failed("QEMU has ended")
        return json.loads(line)

    def call(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = self._next()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Failed(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def await_event(self, name, status=None):
        """When it was, in seconds."""
        while True:
            for event in self.events:
                if event["event"] == name and status in (None, event.get("data", {}).get("status")):
                    return event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
                if event.get("data", {}).get("status") == "failed":
                    raise Failed(f"QEMU's migration failed while {status or name} was waited for")
            event = self._next()
            if "event" in event:
                self.events.append(event)

    def close(self):
        self.lines.close()
        self.socket.close()


TRACE = ("-trace", "postcopy_ram_fault_thread_request", "-trace", "postcopy_place_page", "-msg", "timestamp=on", "-D")
TRACED = re.compile(r"\d+@(\d+\.\d+):(postcopy_ram_fault_thread_request|postcopy_place_page) .*?(?:HVA|host)=(0x[0-9a-f]+)")


def traced_us(lines):
    """How long each page was on its way, from the fault being read to the page being put there, by QEMU's trace events."""
    asked, took = {}, []
    for time_s, event, address in (m.groups() for m in map(TRACED.match, lines) if m):
        if event == "postcopy_ram_fault_thread_request":
            asked.setdefault(address, float(time_s))
        elif address in asked:
            took.append((float(time_s) - asked.pop(address)) * 1e6)
    took.sort()
    if not took:
        return None
    return {"count": len(took), "mean": sum(took) / len(took), "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100],
            "max": took[-1]}


def _command(folder, name, mib, vcpus, *more):
    pages = mib << 8
    return ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi", "-smp", str(vcpus), "-m", str(mib + OTHER_MIB),
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-qmp",
            f"unix:{os.path.join(folder, name)},server=on,wait=off", "-kernel", os.path.join(BIN, "payload.elf"), "-append",
            f"pages={pages} cpus={vcpus} floor={FLOOR_US * CPU_MHZ}", *more]


def _upper_edge(bucket):
    if bucket < STEPS:
        return bucket
    log = bucket // STEPS + 3
    return ((STEPS + bucket % STEPS) << (log - 4)) + (1 << (log - 4)) - 1


def durations(words, us):
    """As durations_json() of durations.c has them. words: of "done"; us: of a cycle."""
    touches, wrong, count, total, longest = words[:5]
    buckets = list(zip(words[5::2], words[6::2]))

    def quantile(share):
        seen = 0
        for bucket, n in buckets:
            seen += n
            if seen >= count * share:
                return min(_upper_edge(bucket), longest) * us
        return 0.0
    return touches, wrong, {
        "count": count, "mean": total / count * us if count else 0.0, "p50": quantile(0.5), "p99": quantile(0.99),
        "max": longest * us, "over_4ms": sum(n for bucket, n in buckets if _upper_edge(bucket) * us > 4000),
        "histogram": [[_upper_edge(bucket) * us, n] for bucket, n in buckets]}


def _words(program, what):
    said = program.line().split()
    heard = time.monotonic()
    if said[0] != what:
        raise Failed(f"{program.name} said {said[0]}, not {what}")
    return [int(word, 16) for word in said[1:]], heard


def measure(link, mib, vcpus, preempt, trace=False):
    """One move; a row as session.py's, as far as QEMU tells."""
    with tempfile.TemporaryDirectory(prefix="native-qemu.") as folder, Programs() as programs:
        traces = os.path.join(folder, "trace")
        more = [*TRACE, traces] if trace else []
        destination = programs.start("QEMU there", _command(folder, "there", mib, vcpus, "-incoming", "defer", *more), link.there)
        source = programs.start("QEMU here", _command(folder, "here", mib, vcpus))
        there = Monitor(os.path.join(folder, "there"), destination)
        here = Monitor(os.path.join(folder, "here"), source)
        capabilities = [{"capability": "postcopy-ram", "state": True}, {"capability": "events", "state": True},
                        {"capability": "postcopy-preempt", "state": preempt}]
        for monitor in (there, here):
            monitor.call("migrate-set-capabilities", capabilities=capabilities)
        here.call("migrate-set-parameters", **{"max-bandwidth": SLOW, "max-postcopy-bandwidth": 0})
        _words(source, "ready")
        there.call("migrate-incoming", uri=f"tcp:{RECEIVER}:{PORT}")
        sent = link.sent()
        here.call("migrate", uri=f"tcp:{RECEIVER}:{PORT}")
        here.call("migrate-start-postcopy")
        began = here.await_event("MIGRATION", "postcopy-active")
        cpu = Cpu()
        there.await_event("RESUME")
        destination.tell("g")
        went, went_at = _words(destination, "go")
        words, done_at = _words(destination, "done")
        ended = here.await_event("MIGRATION", "completed")
        idle = cpu.idle_share()
        wire = [after - before for after, before in zip(link.sent(), sent)]
        touches, wrong, touch = durations(words[1:], (done_at - went_at) * 1e6 / (words[0] - went[0]))
        info = here.call("query-migrate")
        for monitor in (here, there):
            monitor.call("quit")
            monitor.close()
        traced = None
        if trace:
            with open(traces, encoding="utf-8") as f:
                traced = traced_us(f)
        if wrong or touches != mib << 8:
            raise Failed(f"QEMU's guest saw {wrong} wrong pages, in {touches} touches of {mib << 8}")
        return {"workload": "random", "vcpus": vcpus, "mib": mib, "preempt": preempt, "touch_us": touch, "touched": touches,
                "asked": info["ram"]["postcopy-requests"], "push_s": ended - began, "idle_share": idle,
                "bytes_per_s": info["ram"]["transferred"] / (ended - began), "wire_ratio": sum(wire) / (mib << 20),
                "ram": info["ram"], "traced_us": traced, "clock_mhz": (words[0] - went[0]) / (done_at - went_at) / 1e6}
