"""The bare guest (guest/bare.c) with a pager: pages by their name, cases by their number."""

import os
import re
import subprocess

from hvlab import BUILD, check

PAGE = 4096
# the members of `struct pages`, in order
PAGES = ("split", "split_absent", "list", "list_absent", "swaps", "swaps_absent")


def gfns(program):
    """gfn of each page the program has a name for: it is linked to where it is loaded, and maps 1:1 at most."""
    symbols = {}
    for line in subprocess.run(["nm", os.path.join(BUILD, program)], check=True, capture_output=True,
                               text=True).stdout.splitlines():
        if match := re.match(r"([0-9a-f]+) [A-Za-z] (\w+)$", line):
            symbols[match[2]] = int(match[1], 16) // PAGE
    symbols.update({name: symbols["pages"] + i for i, name in enumerate(PAGES)})
    return symbols


class BareGuest:
    """One started, with pagectl attached to it."""

    def __init__(self, bench, program, prepare=()):
        """prepare: commands for pagectl before the guest first runs."""
        self.program = program
        self.gfns = gfns(program)
        domid = bench.bare(program, program, paused=True)
        self.pager = bench.pagectl(domid)
        for command in prepare:
            self.pager.do(command)
        bench.sh(f"xl unpause {program}")
        self.console = bench.console(program)
        self.console.until(r"^READY", 60)

    def evict(self, page, index=0):
        gfn = self.gfns[page] + index
        if "evicted 1" not in self.pager.do(f"evict {gfn:x}"):
            check(False, f"page {page}, gfn {gfn:x}, is evicted")
        return gfn

    def start(self, number):
        self.pager.do(f"write {self.gfns['control']:x} 0 {number}")

    def result(self, number):
        match = self.console.until(rf"^RESULT {number} (-?\d+) (-?\d+)", 30)
        return int(match[1]), int(match[2])

    def run(self, number, what, page, want):
        """A case with that page absent: its (rc, extra), and whether the vcpu has asked for the page."""
        gfn = self.evict(page)
        before = len(self.pager.requests)
        self.start(number)
        got = self.result(number)
        self.pager.do("stats")
        asked = [(r["gfn"], r["vcpu"], r["paused"]) for r in self.pager.requests[before:]]
        check(got == want and asked == [(gfn, 0, 1)],
              f"{self.program}: {what}: (rc, extra) {got}, want {want}; requests (gfn, vcpu, paused) {asked}")
