"""What dom0 does while a guest is suspended: its kernel's own trace of one move in exact mode.

Programs started, who runs, ioctls of privcmd (a hypercall, or a batch of maps), bytes given to TCP. The trace costs a few
hundred instructions an event.
"""

import base64
import gzip
import re

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
