"""What is asked of the figures (issue 6, section 8), and whether it is so. Of QEMU's only rows are compared of which both left
CPU idle: what is short of CPU is not measured by its data path."""

IDLE = 0.2
LATENCY_LINK, LATENCY_VCPUS = "1g", ("1", "4")


def _latency_bars(results, key):
    floor, loaded_long = results.median(key + "floor_us"), results.median(key + "floor_loaded_over_4ms")
    yield key + "mean_us", results.median(key + "mean_us"), 2 * floor, "twice the idle floor"
    yield key + "p99_us", results.median(key + "p99_us"), 4 * floor, "four times the idle floor"
    yield key + "over_4ms", results.median(key + "over_4ms"), loaded_long, "as many as the loaded ping-pong shows"


def _bars(results, links, vcpus):
    """(figure, value, limit, what the limit is)"""
    if LATENCY_LINK in links:
        for n in LATENCY_VCPUS:
            if n in vcpus:
                yield from _latency_bars(results, f"{LATENCY_LINK}.v{n}.")
                key = f"{LATENCY_LINK}.v{n}.bulk_share"
                yield key, -results.median(key), -0.9, "at least"
    for link in links:
        for n in vcpus:
            key = f"{link}.v{n}."
            yield key + "bytes_ratio", results.median(key + "bytes_ratio"), 1.01, "at most"
            yield key + "duplicates", results.median(key + "duplicates"), 0, "at most"
    for name, limit in (("netfault.seq", 0.02), ("netfault.streams16", 0.05), ("rss.receiver_mib", 64), ("rss.sender_mib", 64)):
        yield name, results.median(name), limit, "at most"


def _against_qemu(results, key):
    """(name, ours, QEMU's, what that is) for who has it."""
    enough = min(results.median(key + "idle_share"), results.median(key + "qemu_idle_share")) >= IDLE
    for name in ("mean_us", "p99_us", "max_us"):
        ours, theirs = results.median(key + name), results.median(key + "qemu_" + name)
        yield key + name, ours, theirs, ("won" if ours < theirs else "lost") if enough else "not counted: too little idle CPU"


def say(results, links, vcpus):
    """Returns how many are missed."""
    missed = 0
    results.say("\nwhat is asked for:")
    for name, value, limit, what in _bars(results, links, vcpus):
        if value is None:
            continue
        missed += value > limit
        results.say(f"{'MISSED' if value > limit else 'ok':<8}{name:<24}{abs(value):>10.3f}   {what}: {abs(limit):.3f}")
    for link in links:
        for n in vcpus:
            if results.median(f"{link}.v{n}.qemu_mean_us") is None:
                continue
            for name, ours, theirs, verdict in _against_qemu(results, f"{link}.v{n}."):
                results.say(f"{'':<8}{name:<24}{ours:>10.0f}   QEMU with preempt {theirs:.0f}: {verdict}")
    return missed
