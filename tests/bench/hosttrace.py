#!/usr/bin/env python3
"""What dom0 does while a guest is suspended: its kernel's own trace of one move in exact mode.

Programs started and ended, who runs, ioctls of privcmd (a hypercall, or a batch of maps), bytes given to TCP and to unix
sockets (xenstore, reports). The trace costs a few hundred instructions an event.

As a program: usage: tests/bench/hosttrace.py LOG [LEAST-MS]: the events of the log of a move (build/exact-logs), and what both
ends of xl said, in order; ms from the suspension's start, ms since the event before, of those at least LEAST-MS after it.
"""

import base64
import gzip
import re
import sys

# before the move
START = """
mount -t tracefs none /sys/kernel/tracing
cd /sys/kernel/tracing
echo mono >trace_clock
echo 65536 >buffer_size_kb
echo 'p:lab/privcmd privcmd_ioctl cmd=%si:x32' >kprobe_events
echo 'p:lab/tcp tcp_sendmsg size=%dx:u64' >>kprobe_events
echo 'p:lab/xenstore unix_stream_sendmsg size=%dx:u64' >>kprobe_events
for event in lab sched/sched_process_exec sched/sched_process_exit sched/sched_switch; do
    echo 1 >events/$event/enable
done
cd - >/dev/null
"""
# after it; between those lines, a little more before
DUMP = """
stamp() {{ sed -n "/^$1 .*$2/{{s/^$1 \\([0-9]*\\) .*/\\1/p;q}}" /tmp/logs; }}
logs >/tmp/logs
echo 0 >/sys/kernel/tracing/tracing_on
awk -v from=$(stamp {start}) -v to=$(stamp {end}) '
    BEGIN {{ from = from / 1e6 - 0.1; to = to / 1e6 }}
    /^#/ {{ next }}
    {{ t = $0; sub(/^.*\\] [^ ]* */, "", t); sub(/:.*/, "", t); t += 0 }}
    t >= from && t <= to' /sys/kernel/tracing/trace | gzip -1 | base64 | sed 's/^/trace /'
"""
LINE = re.compile(r"^ *(.{16})-(\d+) +\[\d+\] \S+ +([\d.]+): (\w+): (.*)$")


def events(log):
    """(us of dom0's clock, program, pid, event, its text) of each."""
    packed = "".join(re.findall(r"^trace (\S+)$", log, re.M))
    found = []
    for line in gzip.decompress(base64.b64decode(packed)).decode(errors="replace").splitlines():
        match = LINE.match(line)
        if match:
            found.append((round(float(match[3]) * 1e6), match[1].strip(), int(match[2]), match[4], match[5]))
    return found


def timeline(log, least_ms=0.0):
    """Lines for people, from xl's word that it suspends the guest to its word that the guest runs."""
    said = [(int(us), side, "says", text) for side, us, text in re.findall(r"^(xl|answer) (\d+) (.*)$", log, re.M)]
    start, end = (next(us for us, _, _, text in said if text.startswith(word)) for word in
                  ("postcopy: suspending", "postcopy: running"))
    before = start
    found = said + [(us, program, event, re.sub(r"(prev|next)_prio=\d+ |prev_pid=\d+ |==> ", "", text))
                    for us, program, _, event, text in events(log)]
    for us, program, event, text in sorted(found, key=lambda line: line[0]):
        if start <= us <= end:
            if us - before >= least_ms * 1000 or event == "says":
                yield f"{(us - start) / 1000:9.2f} {(us - before) / 1000:+8.2f}  {program:16} {event:18} {text[:100]}"
            before = us


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8", errors="replace") as f:
        print("\n".join(timeline(f.read(), float(sys.argv[2]) if len(sys.argv) == 3 else 0.0)))
