"""Figures of a cell, from what its job has printed."""

import re

from harness import loss

TICK = re.compile(r"^.*?\(d(\d+)\) \[ *(\d+\.\d+)\] t(\d+)(?: w(\d+))?\s*$", re.M)
COMPLETE = "postcopy: complete ("
RUNS = {True: "postcopy: running", False: "migration target: Domain started"}
SLOT_S = 0.25           # of the series
EDGES_S = (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)  # of gaps between ticks


class Wrong(Exception):
    """A cell whose result must not be used: a wrong byte, a guest that ran twice, a log that does not say."""


class Clock:
    """One clock for all lines, in seconds: Xen's."""

    def __init__(self, move):
        self.move, self.offset_us = move, move.xen_minus_dom0()

    def at(self, side, text):
        return (self.move.at(side, text) + self.offset_us) / 1e6


def ticks_of(log, counts_ticks):
    """({domain: [(t, work)]} in the order of their first ticks, numbers that came again)."""
    found, last, repeated = {}, -1, 0
    for dom, seconds, seq, work in TICK.findall(log):
        repeated += int(seq) <= last
        last = int(seq)
        if counts_ticks or work:
            found.setdefault(int(dom), []).append((float(seconds), last if counts_ticks else int(work)))
    return found, repeated


def count_ticks(ticks):
    """An idle guest's work is to tick: those that it made, not the numbers that they have."""
    return [(t, number) for number, (t, _) in enumerate(ticks)]


def bytes_sent(log):
    """(to the destination, back), with headers, both from before xl migrate until all is over."""
    sent = dict(re.findall(r"^link +qdisc netem (\d+):.*\n(?:(?!link ).*\n)*link +Sent (\d+) bytes", log, re.M))
    if set(sent) != {"10", "20"}:
        raise Wrong(f"bytes of two directions are needed, found {sent}")
    return int(sent["10"]), int(sent["20"])


def times(move, cell, old, new):
    """When what happened, in seconds of Xen's clock."""
    clock = Clock(move)
    found = {"begin": clock.at("mark", "undisturbed"), "start": clock.at("mark", "starts"), "last": old[-1][0],
             "runs": clock.at("answer", RUNS[cell.postcopy]), "first": new[0][0], "ended": clock.at("mark", "ended"),
             "settled": clock.at("mark", "settled")}
    return found | {"complete": clock.at("xl", COMPLETE) if cell.postcopy else found["runs"]}


def verdict(move, cell):
    """Wrong bytes that memwitness, fio or memtester have found. memwitness looks at all of its memory."""
    sweep, stats = move.json('"type":"sweep"'), move.json('"type":"stats"')
    if not sweep or not stats:
        raise Wrong("no sweep, or no statistics")
    wrong = sweep["wrong_bytes"] + stats["wrong_bytes"]
    said = re.findall(r"^bench: (.*?) *(?:\(d\d+\) \[.*)?$", move.log, re.M)  # a tick may come amid dom0's line
    expected = {"fio": r"fio ends with \d+, 0 bad, err=0", "memtester": "memtester runs, 0 failures"}
    if not any(re.fullmatch(expected.get(cell.workload, "nothing to say"), line) for line in said):
        raise Wrong(f"the workload says {said}")
    if wrong:
        raise Wrong(f"{wrong} wrong bytes")
    return wrong


def of_receive(receive):
    """What the pager has counted."""
    if receive["state"] != "completed":
        raise Wrong(f"receive: {receive['state']}: {receive['reason']}")
    faults, ring = receive["faults"], receive["ring"]
    found = {"faults_guest": faults["guest"], "faults_foreign": faults["foreign"], "ring_requests": ring["requests"],
             "hypercalls": sum(receive["hypercalls"].values()), "round_trips": receive["link"]["round_trips"],
             "pages_set": receive["pages"]["set"],
             "superpages": receive["superpages"]["prep"] + receive["superpages"]["collapse"]}
    for quantile in ("p50", "p99", "max"):
        found[f"stall_{quantile}_ms"] = round(faults["latency_us"][quantile] / 1000, 3)
    return found, faults["latency_us"]["histogram"]


def figures(move, cell, matrix):
    """({figure: value}, series and histograms) of a cell that went well."""
    try:
        return _figures(move, cell, matrix)
    except (KeyError, IndexError, TypeError, ValueError) as e:
        raise Wrong(f"its log does not say all: {e!r}") from e


def _figures(move, cell, matrix):
    idle = cell.workload == "idle"
    found, repeated = ticks_of(move.log, idle)
    if len(found) != 2 or repeated:
        raise Wrong(f"the guest ticked in domains {list(found)}, {repeated} ticks came again")
    old, new = found.values()
    ticks = count_ticks(old + new) if idle else old + new
    if not idle and any(b[1] < a[1] for a, b in zip(ticks, ticks[1:])):
        raise Wrong("work was undone")
    when = times(move, cell, old, new)
    undisturbed = loss.undisturbed(ticks, when["begin"], when["start"])
    if not undisturbed:
        raise Wrong("no undisturbed rate")
    rate, step = undisturbed
    gaps = loss.gaps(ticks, when["start"], when["settled"])
    forth, back = bytes_sent(move.log)
    result = {
        "precopy_s": when["last"] - when["start"], "suspend_s": when["runs"] - when["last"],
        "postcopy_s": when["complete"] - when["runs"], "total_s": when["complete"] - when["start"],
        "gap_s": max(gaps), "move_gap_s": when["first"] - when["last"],
        "loss_s": loss.lost(ticks, rate, step, when["start"], when["settled"]),
        "loss_after_s": loss.lost(ticks, rate, step, when["last"], when["settled"]),
    }
    result = {name: round(value, 3) for name, value in result.items()}
    result |= {"rate": round(rate, 2), "bytes": forth, "bytes_back": back,
               "bytes_ratio": round(forth / (matrix["memory"] << 20), 4), "wrong_bytes": verdict(move, cell)}
    more = {"gaps": loss.histogram(gaps, EDGES_S), "slot_s": SLOT_S, "from_s": when["begin"] - when["start"]}
    more["series"] = [[round(t + more["from_s"], 3), value] for t, value in
                      loss.share(ticks, rate, when["begin"], when["settled"], SLOT_S)]
    more["from_s"] = round(more["from_s"], 3)
    more["marks"] = {name: round(t - when["start"], 3) for name, t in when.items()}
    if cell.postcopy:
        counted, more["stalls_us"] = of_receive(move.receive())
        result |= counted
    return result, more
