"""Work that was lost, from a guest's ticks. All times in seconds.

A tick is (t, n): when Xen saw it, and the work done until then. What an undisturbed guest would have done since a time t0 and
this one has not, in seconds of undisturbed work, is the loss:

    integral of (1 - rate(t) / rate0) dt  =  (end - t0) - (n1 - n0) / rate0

Counters come in steps (a block written, a pass over memory), so rates are taken between two ticks at which the counter has just
moved: else half a step at either end would count. What comes after the last move is lost but for one undisturbed step: a guest
that does nothing any more loses all of it.
"""


def steps(ticks):
    """Those at which the counter moved, and the first."""
    found = []
    for tick in ticks:
        if not found or tick[1] != found[-1][1]:
            found.append(tick)
    return found


def within(ticks, start, end):
    return [tick for tick in ticks if start <= tick[0] <= end]


def undisturbed(ticks, start, end):
    """(work per second, seconds between two moves of the counter) between start and end; None if it did not move twice."""
    moved = steps(within(ticks, start, end))[1:]  # the first may be amid a step
    if len(moved) < 2 or moved[-1][1] <= moved[0][1]:
        return None
    took = moved[-1][0] - moved[0][0]
    return (moved[-1][1] - moved[0][1]) / took, took / (len(moved) - 1)


def lost(ticks, rate, step, start, end):
    """Seconds of undisturbed work that are missing between start and end. step: seconds between two undisturbed moves."""
    moved = steps(ticks)
    before = [tick for tick in moved if tick[0] <= start]
    after = [tick for tick in moved if tick[0] <= end]
    if not before or not after or not rate:
        return None
    (t0, n0), (t1, n1) = before[-1], after[-1]
    return (end - t0) - (n1 - n0) / rate - min(end - t1, step)


def share(ticks, rate, start, end, width):
    """[(t since start, rate / rate0)] of slots that are width wide; t is a slot's middle. Work between two ticks is spread
    evenly."""
    done = [0.0] * max(0, round((end - start) / width))
    moved = steps(ticks)
    for (t0, n0), (t1, n1) in zip(moved, moved[1:]):
        first, last = max(0, int((t0 - start) / width)), min(len(done) - 1, int((t1 - start) / width))
        for slot in range(first, last + 1):
            begin, stop = start + slot * width, start + (slot + 1) * width
            overlap = min(t1, stop) - max(t0, begin)
            if overlap > 0 and t1 > t0:
                done[slot] += (n1 - n0) * overlap / (t1 - t0)
    return [(round((slot + 0.5) * width, 3), round(work / width / rate, 4)) for slot, work in enumerate(done)]


def gaps(ticks, start=float("-inf"), end=float("inf")):
    """Of those that reach into start .. end. One that is not over at `end` counts up to there."""
    found = [min(b[0], end) - a[0] for a, b in zip(ticks, ticks[1:]) if b[0] >= start and a[0] <= end]
    return found + ([end - ticks[-1][0]] if ticks and ticks[-1][0] < end < float("inf") else [])


def histogram(lengths, edges):
    """How many are at least as long as each edge and shorter than the next, and how much time that is."""
    found = []
    for low, high in zip(edges, [*edges[1:], float("inf")]):
        inside = [length for length in lengths if low <= length < high]
        found.append([low, len(inside), round(sum(inside), 4)])
    return found
