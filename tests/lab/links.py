"""Shaping of a host's sending side on link0."""

SET = """
set -e
tc qdisc del dev "$1" root 2>/dev/null || true
# one netem does both: it delays, and lets packets out at the rate
if [ -n "$2$3" ]; then
    tc qdisc add dev "$1" root netem ${3:+delay "$3"} ${2:+rate "$2"} limit 20000
fi
tc qdisc show dev "$1"
"""


def shape(host, rate, delay, device="link0"):
    """rate and delay in tc's words (200mbit, 1ms), "" for none. Applies to what this host sends. Returns tc's answer."""
    return host.output("sh", "-c", SET, "sh", device, rate or "", delay or "")
