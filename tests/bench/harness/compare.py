"""`bench compare`: two result files, cell by cell, figure by figure."""

# Less is better; what is not here is reported but judged by nobody.
BETTER_LESS = ("precopy_s", "suspend_s", "postcopy_s", "total_s", "gap_s", "move_gap_s", "loss_s", "loss_after_s", "bytes",
               "bytes_back", "faults_guest", "faults_foreign", "ring_requests", "hypercalls", "round_trips", "stall_p50_ms",
               "stall_p99_ms", "stall_max_ms", "wrong_bytes")
# Differences below these are noise of where a tick or a step of work falls, whatever they are in percent.
NOISE = {"_s": 0.05, "_ms": 0.5, "loss_s": 0.5, "loss_after_s": 0.5}


def rows(old, new):
    """(cell, figure, old value, new value) of every figure that both have."""
    return [(name, figure, old[name]["figures"][figure], new[name]["figures"][figure])
            for name in old if name in new for figure in old[name]["figures"] if figure in new[name]["figures"]]


def missing(old, new):
    """What is judged and the new file lacks: a cell that failed is no better than a slow one."""
    found = []
    for name, cell in old.items():
        if name not in new:
            found.append(name)
        else:
            found += [f"{name}.{figure}" for figure in cell["figures"] if figure in BETTER_LESS and figure not in new[name]["figures"]]
    return found


def noise(figure):
    return NOISE.get(figure) or next((least for end, least in NOISE.items() if figure.endswith(end)), 0)


def worse(row, limit):
    """Whether the new value is worse by more than so many percent."""
    _, figure, old, new = row
    return figure in BETTER_LESS and new - old > max(abs(old) * limit / 100, noise(figure))


def table(found, limit):
    width = max((len(f"{cell}.{figure}") for cell, figure, _, _ in found), default=0)
    lines = []
    for row in found:
        cell, figure, old, new = row
        ratio = f"{new / old:8.3f}x" if old else "        -"
        lines.append(f"{cell + '.' + figure:<{width}} {old:>14} {new:>14} {round(new - old, 3):>+12} {ratio}"
                     + ("  WORSE" if worse(row, limit) else ""))
    return "\n".join(lines)
