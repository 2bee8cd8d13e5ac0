"""SVG by hand: the same input gives the same bytes. Colours follow the reader's theme."""

from html import escape

STYLE = """
text{font:12px system-ui,sans-serif;fill:#222}
.title{font-size:15px;font-weight:600}.note,.axis{fill:#555}.small{font-size:11px}
.grid{stroke:#ddd;stroke-width:1}.base{stroke:#888;stroke-width:1}.back{fill:#fff}
.c0{fill:#8a8a8a}.c1{fill:#2f6fb5}.c2{fill:#8ab8e6}.c3{fill:#c44e1f}.c4{fill:#f0a878}
.p0{fill:#9fb4c7}.p1{fill:#c0392b}.p2{fill:#6aa84f}
.l0,.l1,.l2,.l3,.l4{fill:none;stroke-width:1.6;stroke-linejoin:round}
.l0{stroke:#8a8a8a}.l1{stroke:#2f6fb5}.l2{stroke:#8ab8e6}.l3{stroke:#c44e1f}.l4{stroke:#f0a878}
@media (prefers-color-scheme:dark){text{fill:#e4e4e4}.note,.axis{fill:#aaa}.grid{stroke:#3a3a3a}.back{fill:#181818}
.c0{fill:#a5a5a5}.c1{fill:#5b9be0}.c3{fill:#e0703f}.l0{stroke:#a5a5a5}.l1{stroke:#5b9be0}.l3{stroke:#e0703f}
.p0{fill:#5f7488}.p1{fill:#e05545}}
"""


def number(value):
    """As short as it can be; no -0."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


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
        """entries: (class, text). Returns where it ends."""
        for kind, text in entries:
            if line:
                self.line(x, y - 4, x + 18, y - 4, kind)
            else:
                self.bar(x, y - 10, 12, 12, kind)
            self.text(x + (23 if line else 17), y, text, "small")
            x += 42 + 6.4 * len(text)
        return x

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
