"""Ticks in stamped serial logs: "<usec> (dN) t<seq>" or "t<cpu>.<seq>", some followed by " w<touches>"."""
import re
import statistics
from dataclasses import dataclass, replace

# Xen's prefix is optional; text before "(dN)" is a line that dom0 had begun.
LINE = re.compile(
    r"^(?P<us>\d+) (?P<before>.*?)\(d(?P<dom>\d+)\) t(?:(?P<cpu>\d+)\.)?(?P<seq>\d+)(?: w(?P<work>\d+))?\s*$"
)
# The end of a tick's line: its beginning is in the Xen that the guest has left.
REST = re.compile(r"^(?P<us>\d+) (?:\(XEN\)\s*)?\(d(?P<dom>\d+)\) (?P<rest>[\d.]* ?w?\d*)\s*$")
XEN = re.compile(r"^\(XEN\)\s*(?:\[[^\]]*\]\s*)?$")


@dataclass(frozen=True)
class Tick:
    us: int
    host: str
    dom: int
    cpu: int | None
    seq: int
    work: int | None
    # The line began with something else, so its stamp is that of the other
    # text: such a tick was seen, but when is not known.
    timed: bool

    @property
    def place(self):
        return (self.host, self.dom)


@dataclass(frozen=True)
class Rest:
    us: int
    place: tuple


def read(path, host):
    """Tick and Rest objects, in the order of the log."""
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            match = LINE.match(line.rstrip("\r\n"))
            if not match:
                rest = REST.match(line.rstrip("\r\n"))
                if rest:
                    yield Rest(us=int(rest["us"]), place=(host, int(rest["dom"])))
                continue
            before = match["before"].strip()
            yield Tick(
                us=int(match["us"]),
                host=host,
                dom=int(match["dom"]),
                cpu=None if match["cpu"] is None else int(match["cpu"]),
                seq=int(match["seq"]),
                work=None if match["work"] is None else int(match["work"]),
                timed=before == "" or XEN.match(before) is not None,
            )


@dataclass(frozen=True)
class Gap:
    before: Tick
    after: Tick

    @property
    def ms(self):
        return (self.after.us - self.before.us) / 1000

    @property
    def moved(self):
        return self.before.place != self.after.place


def gaps_of(ticks):
    timed = [tick for tick in ticks if tick.timed]
    return [Gap(a, b) for a, b in zip(timed, timed[1:])]


def mend(ticks, rests):
    """Put in the tick whose line a move cut in two: one is missing and the new host has the rest of a line.

    Its time is that of the rest, the first that was heard of the guest there.
    """
    found = []
    for gap in gaps_of(ticks):
        if not gap.moved or gap.after.seq != gap.before.seq + 2:
            continue
        there = [rest for rest in rests if rest.place == gap.after.place]
        stamps = [rest.us for rest in there if gap.before.us < rest.us < gap.after.us]
        if stamps:
            found.append(replace(gap.after, us=stamps[0], seq=gap.before.seq + 1, work=None))
    return sorted(ticks + found, key=lambda tick: tick.us), len(found)


def gap_summary(gaps):
    lengths = [gap.ms for gap in gaps]
    return {
        "gap_max_ms": round(max(lengths), 3) if lengths else None,
        "gaps_over_20ms": sum(ms > 20 for ms in lengths),
        "gaps_over_50ms": sum(ms > 50 for ms in lengths),
        "gaps_over_100ms": sum(ms > 100 for ms in lengths),
    }


def sequence(ticks):
    """Numbers that are missing or came again. A run starts at 0: that is a restart, not a repetition."""
    lost = repeated = restarts = 0
    highest = None
    for tick in ticks:
        if highest is None:
            highest = tick.seq
        elif tick.seq > highest:
            lost += tick.seq - highest - 1
            highest = tick.seq
        elif tick.seq == 0:
            restarts += 1
            highest = 0
        else:
            repeated += 1
    return {"ticks_lost": lost, "ticks_repeated": repeated, "restarts": restarts}


def segments(ticks):
    """One object for each stay on a host."""
    found = []
    for tick in ticks:
        if not found or found[-1][-1].place != tick.place:
            found.append([])
        found[-1].append(tick)
    return [
        {
            "host": part[0].host,
            "dom": part[0].dom,
            "ticks": len(part),
            "first_us": part[0].us,
            "last_us": part[-1].us,
            "first_seq": part[0].seq,
            "last_seq": part[-1].seq,
            **gap_summary(gaps_of(part)),
        }
        for part in found
    ]


def missed(gaps, period_ms):
    """Ticks that did not happen because the guest did not run."""
    return sum(max(0, round(gap.ms / period_ms) - 1) for gap in gaps)


def rates(samples):
    pairs = zip(samples, samples[1:])
    return [(b.work - a.work) * 1e6 / (b.us - a.us) for a, b in pairs if b.us > a.us]


def work_lost(ticks, baseline_until_us):
    """Touches that an undisturbed guest would have made after baseline_until_us and this one did not."""
    samples = [tick for tick in ticks if tick.work is not None and tick.timed]
    before = [tick for tick in samples if tick.us <= baseline_until_us]
    after = [tick for tick in samples if tick.us > baseline_until_us]
    if len(before) < 3 or not after or after[-1].work < before[-1].work:
        return None
    rate = statistics.median(rates(before))
    if rate <= 0:
        return None
    start, end = before[-1], after[-1]
    lost = rate * (end.us - start.us) / 1e6 - (end.work - start.work)
    return {
        "baseline_per_s": round(rate, 1),
        "window_ms": round((end.us - start.us) / 1000, 3),
        "lost_touches": round(lost),
        "lost_ms": round(lost / rate * 1000, 1),
    }


def series(ticks):
    """[ms since the first tick, touches per second until then] for each pair of work marks."""
    samples = [tick for tick in ticks if tick.work is not None and tick.timed]
    origin = ticks[0].us if ticks else 0
    return [
        [round((b.us - origin) / 1000, 1), round((b.work - a.work) * 1e6 / (b.us - a.us), 1)]
        for a, b in zip(samples, samples[1:])
        if b.us > a.us
    ]
