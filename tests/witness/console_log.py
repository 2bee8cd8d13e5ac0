"""memwitness' JSON lines in a guest's console log, among kernel messages and torn lines."""
import json

TOTALS = ("touches", "writes", "wrong_bytes", "wrong_pages", "sweeps", "pages_swept")


def read(paths):
    """Objects of all logs, in order, and how many lines could not be read.

    The logs are joined as they are: a line that a move cut in two is whole
    again when the rest is what the second host's log begins with.
    """
    text = ""
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as log:
            text += log.read()
    objects, torn = [], 0
    for line in text.split("\n"):
        start = line.find('{"type":')
        if start < 0:
            continue
        try:
            value = json.loads(line[start:])
        except ValueError:
            torn += 1
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects, torn


def runs_of(objects):
    """Split where memwitness was started anew (a guest that rebooted)."""
    runs = []
    for value in objects:
        if value["type"] == "start" or not runs:
            runs.append([])
        runs[-1].append(value)
    return runs


def percentile(buckets, percent, longest):
    """Upper edge of the bucket that holds the percentile, as memwitness computes it."""
    total, seen = sum(buckets.values()), 0
    for edge in sorted(buckets):
        seen += buckets[edge]
        if seen * 100 >= total * percent:
            return min(edge, longest)
    return None


def merge_faults(parts):
    buckets = {}
    for part in parts:
        for edge, count in part["below_us"].items():
            buckets[int(edge)] = buckets.get(int(edge), 0) + count
    longest = max((part["max_us"] for part in parts), default=0)
    return {
        "n": sum(buckets.values()),
        "p50_us": percentile(buckets, 50, longest),
        "p99_us": percentile(buckets, 99, longest),
        "max_us": longest if buckets else None,
    }


def add_stalls(parts):
    total = {key: sum(part[key] for part in parts) for key in ("over_20ms", "over_50ms", "over_100ms")}
    total["longest_ms"] = round(max((part["longest_us"] for part in parts), default=0) / 1000, 3)
    return total


def total_of(run):
    """Largest value of each total; None if no line carried it."""
    found = {}
    for name in TOTALS:
        # A sweep's and a corruption's own wrong_bytes are parts, not totals.
        values = [value[name] for value in run if value["type"] in ("work", "stats", "end") and name in value]
        found[name] = max(values) if values else None
    parts = [value["wrong_bytes"] for value in run if value["type"] == "corruption"]
    if parts:
        found["wrong_bytes"] = max(found["wrong_bytes"] or 0, sum(parts))
    return found


def lines_lost(run):
    numbers = {value["n"] for value in run if "n" in value}
    return max(numbers) + 1 - len(numbers) if numbers else 0


def summary(paths):
    objects, torn = read(paths)
    runs = runs_of(objects)
    if not runs:
        return None
    totals = [total_of(run) for run in runs]
    last = runs[-1]
    corruptions = [value for value in objects if value["type"] == "corruption"]
    stats = next((value for value in reversed(last) if value["type"] == "stats"), None)
    result = {"runs": len(runs), "ended": last[-1]["type"] == "end", "lines_torn": torn}
    result["lines_lost"] = sum(lines_lost(run) for run in runs)
    for name in TOTALS:
        values = [total[name] for total in totals if total[name] is not None]
        result[name] = sum(values) if values else None
    # The sizes of sweeps do not add up over runs.
    result["pages_swept"] = totals[-1]["pages_swept"]
    result["pages"] = next((value["pages"] for value in last if value["type"] == "start"), None)
    result["verdicts"] = sorted({value["verdict"] for value in corruptions})
    result["corruptions"] = corruptions[:20]
    if stats:
        threads, tickers = stats["threads"], stats["tickers"]
        result["stalls"] = add_stalls([thread["stalls"] for thread in threads])
        result["tick_stalls"] = add_stalls([ticker["stalls"] for ticker in tickers])
        result["fault"] = merge_faults([thread["fault"] for thread in threads])
        result["fault_by_vcpu"] = {str(thread["cpu"]): merge_faults([thread["fault"]]) for thread in threads}
        result["sweep_fault"] = merge_faults([stats["sweep_fault"]])
    return result
