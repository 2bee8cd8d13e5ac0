"""The plots of a report."""

import math

from harness.svg import COLOURS, Drawing, legend_height, ticks

PHASES = (("precopy_s", "before it is suspended"), ("suspend_s", "suspended"), ("postcopy_s", "pages still absent"))
WIDTH = 860


class Data:
    """Cells of a type, as plots want them. modes: {mode: title} in the matrix' order."""

    def __init__(self, kind, workloads, modes, cells):
        self.kind, self.workloads, self.modes, self.cells = kind, workloads, modes, cells

    def cell(self, workload, mode):
        return self.cells.get(f"{self.kind}.{workload}.{mode}")

    def figure(self, workload, mode, name):
        cell = self.cell(workload, mode)
        return cell["figures"].get(name) if cell else None

    def present(self):
        return [workload for workload in self.workloads if any(self.cell(workload, mode) for mode in self.modes)]

    def colour(self, mode):
        return list(self.modes).index(mode) % COLOURS


def _rows(data):
    """(workload, mode, y) of horizontal bars, and where they end."""
    y, found = 66, []
    for workload in data.present():
        for mode in data.modes:
            found.append((workload, mode, y))
            y += 17
        y += 12
    return found, y


def _frame(data, title, better, top, unit, below=16):
    rows, end = _rows(data)
    drawing = Drawing(WIDTH, end + below, title, better)
    left, right = 190, WIDTH - 90
    scale = (right - left) / top
    for value in ticks(top):
        if value <= top * 1.0001:
            drawing.line(left + value * scale, 56, left + value * scale, end - 8)
            drawing.text(left + value * scale, end + 6, f"{value:g}", "axis small", "middle")
    drawing.text(right + 12, end + 6, unit, "axis small")
    named = set()
    for workload, mode, y in rows:
        if workload not in named:
            drawing.text(12, y + 11, workload)
            named.add(workload)
        drawing.text(left - 8, y + 11, data.modes[mode], "small", "end")
        if not data.cell(workload, mode):
            drawing.text(left + 5, y + 11, "not measured", "note small")
    return drawing, rows, left, scale, end


def _top(values):
    return ticks(max([value for value in values if value is not None] + [0.001]))[-1]


def phases(data):
    """What the time of a move is made of."""
    def total(workload, mode):
        return sum(data.figure(workload, mode, name) or 0 for name, _ in PHASES)
    top = _top([total(*row[:2]) for row in _rows(data)[0]])
    drawing, rows, left, scale, end = _frame(
        data, f"What a move takes ({data.kind.upper()} guest)",
        "Red is how long the guest stands: the shorter, the better. Bars end when every page is there.", top, "s", below=46)
    for workload, mode, y in rows:
        x = left
        for i, (name, text) in enumerate(PHASES):
            value = data.figure(workload, mode, name)
            if value is not None:
                drawing.bar(x, y, value * scale, 13, f"p{i}", f"{workload}, {data.modes[mode]}: {text} {value:.2f} s")
                x += value * scale
        if data.cell(workload, mode):
            drawing.text(x + 5, y + 11, f"{data.figure(workload, mode, 'suspend_s'):.2f} s", "small")
    drawing.legend(left, end + 32, [(f"p{i}", text) for i, (_, text) in enumerate(PHASES)])
    drawing.text(WIDTH - 12, end + 32, "figures beside bars: suspended", "note small", "end")
    return str(drawing)


def bars(data, name, title, better, unit="s"):
    """One figure of every cell."""
    top = _top([data.figure(workload, mode, name) for workload, mode, _ in _rows(data)[0]])
    drawing, rows, left, scale, end = _frame(data, f"{title} ({data.kind.upper()} guest)", better, top, unit)
    for workload, mode, y in rows:
        value = data.figure(workload, mode, name)
        if value is None:
            continue
        tip = f"{workload}, {data.modes[mode]}: {value:.2f} {unit}"
        drawing.bar(left, y, max(value * scale, 1), 13, f"c{data.colour(mode)}", tip)
        drawing.text(left + max(value * scale, 1) + 5, y + 11, f"{value:.2f}", "small")
    return str(drawing)


def _panels(data, modes, title, better, height):
    """A drawing with a legend of modes and one panel a workload, two in a row; and (workload, left, top, width, height) of
    each."""
    shown = data.present()
    end = 66 + (len(shown) + 1) // 2 * (height + 58)
    entries = [(f"l{data.colour(mode)}", data.modes[mode]) for mode in modes]
    drawing = Drawing(WIDTH, end + legend_height(50, WIDTH, entries) + 24, title, better)
    drawing.legend(50, end + 14, entries, line=True)
    wide = (WIDTH - 130) // 2
    return drawing, [(workload, 50 + (i % 2) * (wide + 55), 84 + (i // 2) * (height + 58), wide, height)
                     for i, workload in enumerate(shown)]


def rates(data, modes):
    """The work rate round each move."""
    drawing, panels = _panels(data, modes, f"Work done while the guest moves ({data.kind.upper()})",
                              "100 % is the same guest undisturbed. The area below it is the loss: the smaller, the better.", 150)
    for workload, left, top, width, height in panels:
        series = {mode: data.cell(workload, mode)["more"]["series"] for mode in modes if data.cell(workload, mode)}
        if not series:
            continue
        begin = min(points[0][0] for points in series.values())
        end = max(points[-1][0] for points in series.values())
        most = 1.4

        def place(t, value):
            return (left + (t - begin) / (end - begin) * width, top + height - min(value, most) / most * height)
        drawing.text(left, top - 8, workload)
        for value in (0, 0.5, 1):
            y = place(begin, value)[1]
            drawing.line(left, y, left + width, y, "base" if value == 1 else "grid")
            drawing.text(left - 6, y + 4, f"{value * 100:.0f} %", "axis small", "end")
        for t in ticks(end, 7):
            if t <= end:
                drawing.line(place(t, 0)[0], top + height, place(t, 0)[0], top + height + 4, "base")
                drawing.text(place(t, 0)[0], top + height + 17, f"{t:g}", "axis small", "middle")
        drawing.text(left + width, top + height + 31, "s since xl migrate began", "axis small", "end")
        for mode, points in series.items():
            drawing.path([place(t, value) for t, value in points], f"l{data.colour(mode)}", data.modes[mode])
    return str(drawing)


def _waits(data, workload, mode):
    cell = data.cell(workload, mode)
    return cell["more"].get("stalls_us", []) if cell else []


def stalls(data, modes):
    """Which share of a guest's waits for pages is longer than x."""
    drawing, panels = _panels(
        data, modes, f"How long vcpus wait for an absent page ({data.kind.upper()})",
        "Share of waits that are longer than x: further left and lower is better. Plain migration has none.", 150)
    longest = max((edge for workload in data.present() for mode in modes for edge, _ in _waits(data, workload, mode)), default=1)
    low, high = 0.1, 10.0 ** math.ceil(math.log10(max(longest / 1000, 10)))  # ms
    for workload, left, top, width, height in panels:
        def place(ms, share):
            along = (math.log10(min(max(ms, low), high)) - math.log10(low)) / (math.log10(high) - math.log10(low))
            return left + along * width, top + height - share * height
        drawing.text(left, top - 8, workload)
        for share in (0, 0.5, 1):
            y = place(low, share)[1]
            drawing.line(left, y, left + width, y)
            drawing.text(left - 6, y + 4, f"{share * 100:.0f} %", "axis small", "end")
        for exponent in range(-1, round(math.log10(high)) + 1):
            x = place(10.0 ** exponent, 0)[0]
            drawing.line(x, top, x, top + height)
            drawing.text(x, top + height + 17, f"{10.0 ** exponent:g}", "axis small", "middle")
        drawing.text(left + width, top + height + 31, "ms (logarithmic)", "axis small", "end")
        for mode in modes:
            histogram = _waits(data, workload, mode)
            if not histogram:
                continue
            count = sum(n for _, n in histogram)
            left_over, points = count, [place(low, 1)]
            for edge, n in histogram:
                points.append(place(edge / 1000, left_over / count))
                left_over -= n
                points.append(place(edge / 1000, left_over / count))
            drawing.path(points, f"l{data.colour(mode)}", f"{data.modes[mode]}: {count} waits")
    return str(drawing)
