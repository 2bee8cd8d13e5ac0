"""`bench report`: a result file's cells as Markdown, one HTML file, and SVG files. The same cells give the same bytes."""

import os

from harness import document, plots, store
from harness.plots import Data

COLUMNS = (  # figure, head, digits, factor
    ("precopy_s", "before, s", 2, 1), ("suspend_s", "suspended, s", 3, 1), ("postcopy_s", "absent, s", 2, 1),
    ("total_s", "total, s", 2, 1), ("gap_s", "longest gap, s", 2, 1), ("loss_s", "loss, s", 2, 1),
    ("loss_after_s", "of it from suspension on", 2, 1),
    ("bytes", "MB on the link", 1, 1e-6), ("bytes_ratio", "of memory", 2, 1), ("wrong_bytes", "wrong bytes", 0, 1))
PAGER = (
    ("pages_set", "pages absent", 0, 1), ("faults_guest", "guest faults", 0, 1), ("faults_foreign", "foreign requests", 0, 1),
    ("ring_requests", "ring requests", 0, 1), ("round_trips", "round trips", 0, 1), ("hypercalls", "hypercalls", 0, 1),
    ("stall_p50_ms", "wait p50, ms", 1, 1), ("stall_p99_ms", "p99, ms", 1, 1), ("stall_max_ms", "longest, ms", 1, 1),
    ("superpages", "superpages", 0, 1))
HEADLINES = (
    ("suspend_s", "Suspended", 2,
     "Seconds from the guest's last tick on its old host to its being unpaused on the new one. Less is better."),
    ("gap_s", "Longest gap", 2, "Seconds between two ticks, the longest while the guest is disturbed. Less is better."),
    ("loss_s", "Loss area", 2, "Seconds of undisturbed work that the move cost in all. Less is better."))


def _number(value, digits, factor=1):
    return "" if value is None else f"{value * factor:.{digits}f}"


class Report:
    def __init__(self, cells, metas):
        meta = metas[-1]
        self.cells, self.metas, self.values = cells, metas, meta["values"]
        self.modes = {name: mode.get("title", name) for name, mode in self.values["modes"].items()}
        self.types = [kind for kind in self.values["types"] if any(cell["type"] == kind for cell in cells.values())]
        self.data = {kind: Data(kind, self.values["workloads"], self.modes, cells) for kind in self.types}
        self.plots, self.blocks = {}, []

    def add(self, *block):
        self.blocks.append(block)

    def plot(self, name, svg, alt):
        self.plots[name] = svg
        self.add("plot", name, alt)

    def rows(self):
        return [(kind, workload, mode, cell["figures"]) for kind in self.types for workload in self.values["workloads"]
                for mode in self.modes for cell in [self.data[kind].cell(workload, mode)] if cell]

    def headline(self, figure, title, digits, text):
        self.add("h", 3, title)
        self.add("p", text)
        rows = []
        for kind in self.types:
            for workload in self.data[kind].present():
                values = [self.data[kind].figure(workload, mode, figure) for mode in self.modes]
                rows.append([f"{kind.upper()}", workload, *(_number(value, digits) for value in values)])
        self.add("table", ["guest", "workload", *self.modes.values()], rows)

    def progress(self):
        """Of a mode that has a sibling NAME-2017: what is left of the sibling's figures."""
        pairs = [(mode, mode + "-2017") for mode in self.modes if mode + "-2017" in self.modes]
        rows = []
        for kind in self.types:
            for workload in self.data[kind].present():
                for new, old in pairs:
                    both = [[self.data[kind].figure(workload, mode, name) for name, *_ in HEADLINES] for mode in (new, old)]
                    if all(self.data[kind].cell(workload, mode) for mode in (new, old)):
                        rows.append([f"{kind.upper()} {workload}", self.modes[new], *(f"{a / b:.2f}" for a, b in zip(*both))])
        if rows:
            self.add("h", 3, "Now over 2017")
            self.add("p", "What is left of the figures of the data path of 2017, in the same guest and mode. Below 1 is better.")
            self.add("table", ["guest", "way", *(title.lower() for _, title, *_ in HEADLINES)], rows)

    def reference(self):
        found = self.values.get("reference")
        if not found:
            return
        self.add("h", 2, "The figures of 2017")
        self.add("p", found["about"])
        self.add("table", found["head"], found["rows"])

    def table(self, columns, skip_empty=False):
        rows = []
        for kind, workload, mode, figures in self.rows():
            if skip_empty and columns[0][0] not in figures:
                continue
            rows.append([f"{kind.upper()} {workload}", self.modes[mode], *(_number(figures.get(name), digits, factor)
                                                                           for name, _, digits, factor in columns)])
        self.add("table", ["guest", "way", *(head for _, head, _, _ in columns)], rows)

    def against(self):
        """Where a way that is not plain does worse than plain; from the figures, so that nothing is left out."""
        if "plain" not in self.modes:
            return
        worse, counted = [], 0
        for kind, workload, mode, figures in self.rows():
            base = self.data[kind].cell(workload, "plain")
            if mode == "plain" or not base or mode.endswith("-2017"):
                continue
            counted += 1
            found = [f"{text} {figures[name]:.2f} s against {base['figures'][name]:.2f} s"
                     for name, text in (("suspend_s", "suspended"), ("gap_s", "longest gap"), ("loss_s", "loss"),
                                        ("total_s", "total"))
                     if figures[name] > base["figures"][name] * 1.05 + 0.05]
            if found:
                worse.append(f"{kind.upper()} {workload}, {self.modes[mode]}: " + ", ".join(found))
        self.add("h", 2, "Where post-copy does worse than plain migration")
        self.add("p", f"By more than 5 % and 0.05 s, in {len(worse)} of {counted} cells" + (":" if worse else ".") if counted else
                 "Nothing could be compared: there is no plain migration, or nothing besides it.")
        if worse:
            self.add("list", worse)

    def drawn(self):
        modes = list(self.modes)
        shown = [mode for mode in modes if mode != "onepass-2017"][:4] if len(modes) > 4 else modes
        postcopy = [mode for mode in modes if "--postcopy" in self.values["modes"][mode].get("options", "")]
        for kind, data in self.data.items():
            self.add("h", 2, f"{kind.upper()} guests, drawn")
            self.plot(f"phases-{kind}", plots.phases(data), f"What a move of a {kind.upper()} guest takes")
            self.plot(f"loss-{kind}", plots.bars(data, "loss_s", "Loss area: undisturbed work a move cost", "Shorter is better."),
                      f"Loss area, {kind.upper()}")
            self.plot(f"gap-{kind}", plots.bars(data, "gap_s", "Longest time without a tick", "Shorter is better."),
                      f"Longest gap, {kind.upper()}")
            self.plot(f"rate-{kind}", plots.rates(data, shown), f"Work rate while a {kind.upper()} guest moves")
            if postcopy:
                self.plot(f"stalls-{kind}", plots.stalls(data, postcopy), f"How long vcpus wait for a page, {kind.upper()}")

    def made_of(self):
        versions, hashes = self.metas[-1]["versions"], self.metas[-1]["hashes"]
        commits = list(dict.fromkeys(meta["commit"] for meta in self.metas))
        self.add("h", 2, "What this was measured on")
        rows = [["command", "`" + " ".join(self.metas[-1]["command"]) + "`"], ["commit", ", ".join(commits)]]
        rows += [[name, str(value)] for name, value in sorted((versions | hashes).items())]
        rows += [[key, str(self.values[key])] for key in ("memory", "vcpus", "link", "weight", "receive", "rate",
                                                          "quota", "tick_ms", "undisturbed_s", "settle_s")]
        self.add("table", ["what", "is"], rows)

    def write_up(self):
        self.add("h", 1, self.values.get("title") or self.values["name"])
        for text in self.values.get("about", []):
            self.add("p", text)
        expected = len(self.values["types"]) * len(self.values["workloads"]) * len(self.modes)
        missing = expected - len(self.rows())
        if missing:
            self.add("p", f"**{missing} of {expected} cells are not measured:** they are missing or empty below.")
        self.add("h", 2, "At a glance")
        for headline in HEADLINES:
            self.headline(*headline)
        self.progress()
        self.reference()
        self.against()
        self.add("h", 2, "All figures of the moves")
        self.table(COLUMNS)
        self.add("h", 2, "What the pager did")
        self.table(PAGER, skip_empty=True)
        self.drawn()
        if self.values.get("not_shown"):
            self.add("h", 2, "What is not shown")
            self.add("list", self.values["not_shown"])
        self.made_of()
        return self


def write(files, out):
    """Returns the paths written."""
    cells, metas = {}, []
    for path in files:
        more, meta = store.read(path)
        cells, metas = cells | more, metas + meta
    if not cells or not metas:
        raise SystemExit(f"bench: no cells, or no meta, in {', '.join(files)}")
    report = Report(cells, metas).write_up()
    title = report.values.get("title") or report.values["name"]
    texts = {f"{name}.svg": svg for name, svg in report.plots.items()}
    texts |= {"report.md": document.markdown(report.blocks), "report.html": document.html(report.blocks, report.plots, title)}
    os.makedirs(out, exist_ok=True)
    for name, text in texts.items():
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(text)
    return [os.path.join(out, name) for name in sorted(texts)]
