"""Shaping of a host's sending side on link0."""

import re

from paths import LabError

UNITS = {"": 1, "bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
PACKET = 9014
# what a switch would hold: this much time at the rate, besides what is under way for the delay
QUEUE_SECONDS = 0.05

SET = """
set -e
tc qdisc del dev "$1" root 2>/dev/null || true
# one netem does both: it delays, and lets packets out at the rate
if [ -n "$2$3" ]; then
    tc qdisc add dev "$1" root netem ${3:+delay "$3"} ${2:+rate "$2"} limit "$4"
fi
tc qdisc show dev "$1"
"""


def _number(text, units, what):
    match = re.fullmatch(r"([0-9.]+)([a-z]*)", text)
    if not match or match.group(2) not in units:
        raise LabError(f"{what} {text!r}: a number and one of {', '.join(u for u in units if u)}")
    return float(match.group(1)) * units[match.group(2)]


def _limit(rate, delay):
    """netem's queue in packets. Too small loses packets that are only delayed, too big lets a sender queue
    seconds of bulk in front of what is urgent, which no real link does."""
    seconds = (_number(delay, TIMES, "--delay") if delay else 0) + QUEUE_SECONDS
    if not rate:
        return 20000
    return max(50, int(_number(rate, UNITS, "--rate") / 8 * seconds / PACKET))


def shape(host, rate, delay, device="link0"):
    """rate and delay in tc's words (200mbit, 1ms), "" for none, for what this host sends. Returns tc's
    answer."""
    return host.output("sh", "-c", SET, "sh", device, rate, delay, str(_limit(rate, delay)))
