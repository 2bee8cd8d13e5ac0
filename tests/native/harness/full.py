"""The measurement: for each link the floor, the pager, and QEMU beside it, in the same run."""

import json
import os
import shlex
import subprocess
import sys

from . import bars, qemu
from .link import Link, floor, iperf
from .processes import BIN, TOP, Failed
from .session import PAGE, Session

sys.path.append(os.path.join(TOP, "tests/bench"))
import figures as bench_figures  # noqa: E402

LINKS = {"1g": {"mbit": 1000, "rtt_us": 200}, "10g": {"mbit": 10000}, "veth": {}}
LARGER = {"10g": 4, "veth": 4}  # a guest there, so that moving it takes some seconds, too
LOCALITY = "1g"  # netfault is about who wins a race: on the link whose speed is known
TOUCH_SHARE = 0.5  # of the pages a second that the link brings, that vcpus with locality touch
PACE = 0.9  # of the goodput, of a bulk stream that leaves the queue short
QEMU_VCPUS = (1, 4)
RSS_MIB = 2048


class Results:
    """Figures by name, the rows they are from, and a text of both."""

    def __init__(self, name, serve, receive):
        self.serve, self.receive = serve, receive  # the product's options, everywhere
        self.values = {}  # name: (unit, one value of each repetition)
        self.figures = bench_figures.Figures(name)
        self.figures.path = os.path.join(TOP, "build/native", name + ".jsonl")
        self.rows = []
        self.lines = []

    def add(self, name, value, unit):
        self.values.setdefault(name, (unit, []))[1].append(value)

    def median(self, name):
        """None: not measured."""
        values = sorted(self.values.get(name, ("", []))[1])
        return values[len(values) // 2] if values else None

    def row(self, name, row):
        self.rows.append({"row": name, **row})

    def say(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def write(self, also=None):
        for name, (unit, values) in self.values.items():
            self.figures.add(name, values, unit)
        self.figures.write()
        folder, name = os.path.split(self.figures.path[:-len(".jsonl")])
        with open(os.path.join(folder, name + ".rows.jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row) + "\n" for row in self.rows)
        meta = self.figures.meta()
        head = f"bench-native, commit {meta['commit']}, {meta['versions']['machine']}, tcp {_congestion_control()}\n"
        text = head + "\n".join(self.lines) + "\n\n" + self.figures.table() + "\n"
        for where in [folder, *([also] if also else [])]:
            with open(os.path.join(where, name + ".txt"), "w", encoding="utf-8") as f:
                f.write(text)
        print(f"figures: {os.path.relpath(self.figures.path, TOP)}")


def _congestion_control():
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as f:
        return f.read().strip()


HEAD = (f"{'':<16}{'n':>7}{'mean':>8}{'p50':>8}{'p99':>8}{'max':>9}{'>4ms':>6}{'x floor':>9}{'bulk':>7}{'idle':>7}")


def _line(name, touch, idle_floor, share=None, idle=None):
    """One of who was measured: durations in us, mean over the idle floor, share of the link's goodput, of idle CPU."""
    text = (f"{name:<16}{touch['count']:>7}{touch['mean']:>8.0f}{touch['p50']:>8.0f}{touch['p99']:>8.0f}{touch['max']:>9.0f}"
            f"{touch['over_4ms']:>6}{touch['mean'] / idle_floor:>9.2f}")
    text += f"{share:>7.2f}" if share is not None else f"{'':>7}"
    return text + (f"{idle:>7.2f}" if idle is not None else "")


def _durations(results, prefix, touch):
    for name in ("mean", "p50", "p99", "max"):
        results.add(f"{prefix}{name}_us", touch[name], "us")
    results.add(f"{prefix}over_4ms", touch["over_4ms"], "faults")
    results.add(f"{prefix}faults", touch["count"], "faults")


def _latency(results, link, vcpus, mib, goodput):
    """Random touches while the push has the link full."""
    key = f"{link.name}.v{vcpus}."
    idle = floor(link, vcpus)["round_trip_us"]
    # As long as the move will take: so many chances of a long one.
    ms = max(2000, int((mib << 20) / goodput * 1000))
    loaded = floor(link, vcpus, ms, bulk=True)
    paced = floor(link, vcpus, ms, bulk=True, pace=goodput * PACE)
    row = Session(link, mib, vcpus, serve=results.serve, receive=results.receive).run()
    results.row(key + "floor", {"idle": idle, "loaded": loaded, "paced": paced})
    results.row(key + "pager", row)
    results.add(key + "floor_us", idle["mean"], "us")
    results.add(key + "floor_p99_us", idle["p99"], "us")
    results.add(key + "floor_loaded_us", loaded["round_trip_us"]["mean"], "us")
    results.add(key + "floor_loaded_p99_us", loaded["round_trip_us"]["p99"], "us")
    results.add(key + "floor_loaded_over_4ms", loaded["round_trip_us"]["over_4ms"], "round trips")
    results.add(key + "floor_paced_us", paced["round_trip_us"]["mean"], "us")
    results.add(key + "floor_paced_p99_us", paced["round_trip_us"]["p99"], "us")
    _durations(results, key, row["touch_us"])
    results.add(key + "idle_share", row["idle_share"], "of the CPUs")
    results.add(key + "bulk_share", row["bytes_per_s"] / goodput, "of iperf3's")
    results.add(key + "bytes_ratio", row["bytes_ratio"], "of the pages' bytes")
    results.add(key + "wire_ratio", row["wire_ratio"], "of the pages' bytes")
    results.add(key + "duplicates", row["duplicates"], "pages")
    results.say(_line(f"v{vcpus} floor", idle, idle["mean"]))
    results.say(_line(f"v{vcpus} floor loaded", loaded["round_trip_us"], idle["mean"], loaded["bulk_bytes_per_s"] / goodput))
    results.say(_line(f"v{vcpus} floor paced", paced["round_trip_us"], idle["mean"], paced["bulk_bytes_per_s"] / goodput))
    results.say(_line(f"v{vcpus} pager", row["touch_us"], idle["mean"], row["bytes_per_s"] / goodput, row["idle_share"]))
    seen = row["pager_us"]
    results.say(f"  as receive sees it  mean {seen['mean']:.0f}, p50 {seen['p50']:.0f}, p99 {seen['p99']:.0f}")
    return idle["mean"]


def _qemu(results, link, vcpus, mib, goodput, idle_floor, trace):
    """The same touches of QEMU's guest. Without preempt, pages that are waited for stand in line with the others."""
    for prefix, preempt in (("qemu_", True), ("qemu_plain_", False)):
        row = qemu.measure(link, mib, vcpus, preempt, trace)
        key = f"{link.name}.v{vcpus}.{prefix}"
        results.row(key[:-1], row)
        _durations(results, key, row["touch_us"])
        results.add(key + "idle_share", row["idle_share"], "of the CPUs")
        results.add(key + "bulk_share", row["bytes_per_s"] / goodput, "of iperf3's")
        name = f"v{vcpus} qemu" + ("" if preempt else " plain")
        results.say(_line(name, row["touch_us"], idle_floor, row["bytes_per_s"] / goodput, row["idle_share"]))
        if row["traced_us"]:
            results.say("  by its traces  " + ", ".join(f"{key} {value:.0f}" for key, value in row["traced_us"].items()))


def _baseline(results, link, vcpus, mib, goodput, idle_floor):
    """The data path of 2017."""
    row = Session(link, mib, vcpus, serve=["--baseline"], receive=["--baseline"]).run()
    key = f"{link.name}.v{vcpus}.baseline_"
    results.row(key[:-1], row)
    _durations(results, key, row["touch_us"])
    results.add(key + "idle_share", row["idle_share"], "of the CPUs")
    results.add(key + "bulk_share", row["bytes_per_s"] / goodput, "of iperf3's")
    results.say(_line(f"v{vcpus} baseline", row["touch_us"], idle_floor, row["bytes_per_s"] / goodput, row["idle_share"]))


def _orders():
    """What serve can push in another order: (name in figures, options)."""
    orders = [("", [])]
    if "--order" in subprocess.run([os.path.join(BIN, "native-pager"), "serve", "--help"], check=True, stdout=subprocess.PIPE,
                                   text=True).stdout:
        orders.append((".push_only", ["--order", "push"]))
    return orders


def _locality(results, link, mib, goodput):
    rate = int(goodput / PAGE * TOUCH_SHARE)
    results.say(f"\nlocality on {link.name}, 1 vcpu, {rate} touches a second: network requests for a fault / pages touched")
    for workload in ("seq", "streams16", "zipf"):
        touches = mib << 20 >> 12 if workload == "zipf" else 0
        for order, options in _orders():
            row = Session(link, mib, 1, workload, rate=rate, touches=touches, serve=[*results.serve, *options],
                          receive=results.receive).run()
            name = workload + order
            results.row(f"netfault.{name}", row)
            results.add(f"netfault.{name}", row["netfault"], "of the pages touched")
            results.say(f"{name:<20}{row['netfault']:.4f}   {row['asked']} of {row['touched']}, {row['touch_us']['count']} had to "
                        f"wait, mean {row['touch_us']['mean']:.0f} us; the guest took {row['guest_s']:.2f} s")


def _memory(results, link):
    row = Session(link, RSS_MIB, 4, serve=results.serve, receive=results.receive).run()
    if not min(row["rss_mib"].values()):
        raise Failed(f"{RSS_MIB} MiB moved before memory could be looked at")
    results.row("rss", row)
    results.say(f"\nown memory, of a guest of {RSS_MIB} MiB on {link.name}:")
    for side in ("receiver", "sender"):
        results.add(f"rss.{side}_mib", row["rss_mib"][side], "MiB")
        results.say(f"{side:<16}{row['rss_mib'][side]:.1f} MiB")


def _link(results, asked, name):
    mib = asked.mib * LARGER.get(name, 1)
    with Link(name, **LINKS[name]) as link:
        goodput = iperf(link)
        results.add(f"{name}.rtt_us", link.measured_rtt_us, "us")
        results.add(f"{name}.iperf_mbit", goodput * 8 / 1e6, "Mbit/s")
        results.say(f"\nlink {name}: round trip {link.measured_rtt_us:.0f} us, iperf3 {goodput * 8 / 1e6:.0f} Mbit/s; a guest of "
                    f"{mib} MiB, random touches, us")
        results.say(HEAD)
        for vcpus in (int(n) for n in asked.vcpus.split(",")):
            idle_floor = _latency(results, link, vcpus, mib, goodput)
            if vcpus in QEMU_VCPUS:
                _baseline(results, link, vcpus, mib, goodput, idle_floor)
            if vcpus in QEMU_VCPUS and not asked.no_qemu:
                _qemu(results, link, vcpus, mib, goodput, idle_floor, asked.qemu_trace)
        if name == LOCALITY:
            _locality(results, link, mib, goodput)
        if name == asked.links.split(",")[-1]:
            _memory(results, link)


def run(asked):
    names = asked.links.split(",")
    if set(names) - set(LINKS):
        raise Failed(f"no such link: {', '.join(set(names) - set(LINKS))}; there are {', '.join(LINKS)}")
    results = Results(asked.out, shlex.split(asked.serve), shlex.split(asked.receive))
    os.makedirs(os.path.join(TOP, "build/native"), exist_ok=True)
    for _ in range(asked.repeat):
        for name in names:
            _link(results, asked, name)
    missed = bars.say(results, names, asked.vcpus.split(","))
    results.write(os.path.join(TOP, "tests/results") if asked.results else None)
    if asked.gate and missed:
        raise Failed(f"{missed} of what is asked for is not so")
