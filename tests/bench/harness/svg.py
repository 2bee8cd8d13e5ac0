"""SVG by hand: the same input gives the same bytes. Colours follow the reader's theme."""

from html import escape

STYLE = """
text{font:12px system-ui,sans-serif;fill:#222}
.title{font-size:15px;font-weight:600}.note,.axis{fill:#555}.small{font-size:11px}
.grid{stroke:#ddd;stroke-width:1}.base{stroke:#888;stroke-width:1}.back{fill:#fff}
.c0{fill:#8a8a8a}.c1{fill:#2f6fb5}.c2{fill:#8ab8e6}.c3{fill:#c44e1f}.c4{fill:#f0a878}
.c5{fill:#7b4fb0}.c6{fill:#3f9142}.c7{fill:#1f9c94}.c8{fill:#b08d00}.c9{fill:#c2388a}
.p0{fill:#9fb4c7}.p1{fill:#c0392b}.p2{fill:#6aa84f}
.l0,.l1,.l2,.l3,.l4,.l5,.l6,.l7,.l8,.l9{fill:none;stroke-width:1.6;stroke-linejoin:round}
.l0{stroke:#8a8a8a}.l1{stroke:#2f6fb5}.l2{stroke:#8ab8e6}.l3{stroke:#c44e1f}.l4{stroke:#f0a878}
.l5{stroke:#7b4fb0}.l6{stroke:#3f9142}.l7{stroke:#1f9c94}.l8{stroke:#b08d00}.l9{stroke:#c2388a}
@media (prefers-color-scheme:dark){text{fill:#e4e4e4}.note,.axis{fill:#aaa}.grid{stroke:#3a3a3a}.back{fill:#181818}
.c0{fill:#a5a5a5}.c1{fill:#5b9be0}.c3{fill:#e0703f}.l0{stroke:#a5a5a5}.l1{stroke:#5b9be0}.l3{stroke:#e0703f}
.c5{fill:#a584d6}.l5{stroke:#a584d6}.p0{fill:#5f7488}.p1{fill:#e05545}}
"""
COLOURS = 10  # c0, l0 and so on
LEGEND_LINE = 18


def number(value):
    """As short as it can be; no -0."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _legend_places(x, width, entries):
    """How far right and down of x each entry is; a line that is full is followed by another."""
    across, down, found = 0, 0, []
    for _, text in entries:
        wide = 42 + 6.4 * len(text)
        if across and x + across + wide > width:
            across, down = 0, down + LEGEND_LINE
        found.append((across, down))
        across += wide
    return found


def legend_height(x, width, entries):
    """What a legend of more than one line needs besides its first."""
    return max([down for _, down in _legend_places(x, width, entries)], default=0)


class Drawing:
    def __init__(self, width, height, title, better=""):
        """better: which way is good, said under the title."""
        self.width, self.height, self.title = width, height, title
        self.parts = [f'<rect class="back" width="{width}" height="{height}"/>']
        self.text(12, 22, title, "title")
        if better:
            self.text(12, 40, better, "note")

    def text(self, x, y, text, kind="", anchor="start"):
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, kind="grid"):
        self.parts.append(f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{kind}"/>')

    def bar(self, x, y, width, height, kind, tip=""):
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" height="{number(height)}" '
                          f'class="{kind}">{inside}</rect>')

    def path(self, points, kind, tip=""):
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        where = " ".join(f"{'M' if i == 0 else 'L'}{number(x)} {number(y)}" for i, (x, y) in enumerate(points))
        self.parts.append(f'<path d="{where}" class="{kind}">{inside}</path>')

    def legend(self, x, y, entries, line=False):
        """entries: (class, text)."""
        for (kind, text), (across, down) in zip(entries, _legend_places(x, self.width, entries)):
            at, base = x + across, y + down
            if line:
                self.line(at, base - 4, at + 18, base - 4, kind)
            else:
                self.bar(at, base - 10, 12, 12, kind)
            self.text(at + (23 if line else 17), base, text, "small")

    def __str__(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" role="img" aria-label="{escape(self.title)}">\n<style>{STYLE}</style>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def ticks(top, about=6):
    """Round values from 0 to at least top."""
    step = 10.0 ** -3
    while True:
        for factor in (1, 2, 5):
            if step * factor * about >= top:
                count = int(-(-top // (step * factor)))
                return [i * step * factor for i in range(count + 1)]
        step *= 10
