"""One guest moved from host a to host b by `xl migrate`, with or without --postcopy.

Both ends' lines are stamped as they come, by this machine's clock: what a phase took is the time between two of them.
"""

import json
import os
import re
import shlex
import threading
import time

from lab import TOP, Failure, check
from move import Move

TRANSPORT = os.path.join(TOP, "tests/cases/transport")
VIA = "/usr/bin/via"
ANSWER = "/usr/bin/answer"
HOOK = "/etc/xen/scripts/postcopy"

# phase: (host, line that starts it), (host, line that ends it)
PHASES = {
    "channels": (("src", "start"), ("src", "channels open")),
    "suspend": (("src", "suspending"), ("src", "suspended")),
    "stream": (("src", "suspended"), ("dst", "stream received")),
    "marking": (("dst", "marking"), ("dst", "active")),
    "build": (("dst", "active"), ("dst", "ready")),
    "commit": (("dst", "ready"), ("dst", "GO received")),
    "resume": (("dst", "GO received"), ("dst", "running")),
}


class Lines:
    """Lines of a background command on a host, each with the time it came."""

    def __init__(self, lab, host, command):
        self.process = lab.background(host, command)
        self.lines = []
        self._changed = threading.Condition()
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self.process.stdout:
            # xl's progress: carriage returns within a line
            now = time.monotonic()
            with self._changed:
                self.lines += [(now, part) for part in line.rstrip("\n").split("\r") if part]
                self._changed.notify_all()
        self.process.wait()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def until(self, pattern, timeout, start=0):
        """Time of the first line from the given one on that matches; None if the command ended without."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for when, line in self.lines[start:]:
                    if re.search(pattern, line):
                        return when
                start = len(self.lines)
                if self.ended:
                    return None
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) or time.monotonic() > deadline:
                    raise Failure(f"no line like {pattern!r} within {timeout} s; last: {self.text()[-600:]}")

    def wait(self, timeout):
        """The exit status."""
        self.process.wait(timeout)
        self._thread.join(timeout)
        return self.process.returncode

    def text(self):
        with self._changed:
            return "\n".join(line for _, line in self.lines)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


class Hosts:
    """What both hosts need for `xl migrate -s via`: the transport, its other end running, and the hook script.

    receive_options, serve_options: of xenpaging-pc, for every post-copy move.
    """

    def __init__(self, lab, receive_options="--verify", serve_options=""):
        self.lab = lab
        self.serve_options = serve_options
        self.answers = {}
        for host in lab.names:
            for name, path in (("via", VIA), ("answer", ANSWER)):
                lab.put(host, os.path.join(TRANSPORT, name), path)
            # a link that is cut is noticed in seconds, not in a quarter of an hour
            lab.sh(host, f"echo 5 >/proc/sys/net/ipv4/tcp_retries2; mkdir -p {os.path.dirname(HOOK)}")
            lab.put(host, os.path.join(TOP, "pager/hooks/postcopy"), HOOK)
        self.answer(receive_options)

    def answer(self, receive_options):
        """From now on receivers run with these options."""
        self.end()
        for host in self.lab.names:
            self.answers[host] = Lines(self.lab, host, f"POSTCOPY_OPTIONS='{receive_options}' exec {ANSWER} 2>&1")
        for host in self.lab.names:
            self.lab.sh(host, "for i in $(seq 100); do ss -ltn | grep -q :7003 && exit 0; usleep 50000; done; exit 1")

    def end(self):
        for lines in self.answers.values():
            lines.end()


class Migration(Move):
    """A Move whose steps are all in `xl migrate`."""

    def __init__(self, hosts, **options):
        super().__init__(hosts.lab, **options)
        self.hosts = hosts
        self.xl = None
        self.first_answer = 0

    def start(self, *options, env="", transport=VIA):
        """Starts `xl migrate OPTIONS NAME HOST` on the source; xl's and the receiver's lines are read from now on."""
        self.first_answer = len(self.hosts.answers[self.dst].lines)
        self.stamp("start")
        self.xl = Lines(self.lab, self.src,
                        f"echo start; export POSTCOPY_OPTIONS='{self.hosts.serve_options}'; {env} exec xl -T migrate {' '.join(options)} -s {transport} {shlex.quote(self.name)} "
                        f"{self.dst} 2>&1")

    def at(self, host, phase, timeout=120):
        """Waits for a phase's line of ours on a host (`src`, `dst`); its time, None if xl ended before."""
        if host == "src":
            return self.xl.until("^start$" if phase == "start" else rf"postcopy: {re.escape(phase)}", timeout)
        return self.hosts.answers[self.dst].until(rf"postcopy: {re.escape(phase)}", timeout, self.first_answer)

    def phases(self):
        """Seconds of each phase, of a move that has ended well."""
        return {phase: round(self.at(*end) - self.at(*start), 3) for phase, (start, end) in PHASES.items()}

    def finish(self, timeout=600):
        """Waits for xl's end; its exit status."""
        code = self.xl.wait(timeout)
        self.stamp("end")
        return code

    def migrate(self, *options, timeout=600):
        """A whole move that has to go well."""
        self.start(*options)
        code = self.finish(timeout)
        check(code == 0, f"xl migrate {' '.join(options)}: exit status {code}"
              + (f": {self.xl.text()[-1500:]} | {self.answer_text()[-1500:]}" if code else ""))

    def answer_text(self):
        return "\n".join(line for _, line in self.hosts.answers[self.dst].lines[self.first_answer:])

    def wait_ended(self, role, timeout=300):
        """Waits until a role has ended, well or not; returns its last words."""
        host = {"serve": self.src, "receive": self.dst}[role]
        code, out, err = self.lab.status(
            host, f"xenpaging-pc status --json --wait ended --role {role} --timeout {timeout} "
            f"{shlex.quote(self.name)}", timeout + 10)
        if code:
            raise Failure(f"{role} on {host} did not end within {timeout} s: {out} {err}")
        return json.loads(out)

    # -- what must hold after a failure

    def runs_on(self, host, timeout=30):
        """The guest's vcpus get somewhere on that host."""
        console = self.lab.console(host, self.name)
        ticks = console.count('"type":"work"')
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.lab.console(host, self.name).count('"type":"work"') > ticks:
                return True
        return False
