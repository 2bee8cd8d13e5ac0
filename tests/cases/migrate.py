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
HOLD = "/run/hold"

# phase: (host, line that starts it), (host, line that ends it)
PHASES = {
    "channels": (("src", "start"), ("src", "channels open")),
    "early_marking": (("dst", "early marking"), ("dst", "marked early")),
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

    receive_options, serve_options: of xenpaging-pc, for every post-copy move. held: with transport/postcopy-held in
    front of the hook script. ssh: moves go without -s, the caller has sshd running.
    """

    def __init__(self, lab, receive_options="--verify", serve_options="", held=False, ssh=False):
        self.lab = lab
        self.serve_options = serve_options
        self.ssh = ssh
        self.answers = {}
        for host in lab.names:
            for name, path in (("via", VIA), ("answer", ANSWER)):
                lab.put(host, os.path.join(TRANSPORT, name), path)
            # a link that is cut is noticed in seconds, not in a quarter of an hour
            lab.sh(host, f"echo 5 >/proc/sys/net/ipv4/tcp_retries2; mkdir -p {os.path.dirname(HOOK)}")
            if not lab.packaged:
                lab.put(host, os.path.join(TOP, "pager/hooks/postcopy"), HOOK + (".real" if held else ""))
            if held:
                lab.put(host, os.path.join(TRANSPORT, "postcopy-held"), HOOK)
                lab.sh(host, f"mkdir -p {HOLD}")
        if not ssh:
            self.answer(receive_options)

    def answer(self, receive_options):
        """From now on receivers run with these options."""
        self.end()
        for host in self.lab.names:
            self.answers[host] = Lines(self.lab, host, f"POSTCOPY_OPTIONS='{receive_options}' exec {ANSWER} 2>&1")
        for host in self.lab.names:
            self.lab.sh(host, "for i in $(seq 100); do ss -ltn | grep -q :7003 && exit 0; usleep 50000; done; exit 1")

    def hold(self, host, where):
        """The next time the hook script on that host comes there, it stops: commit-before, activate-after, ...
        Nowhere else."""
        for name in self.lab.names:
            self.lab.sh(name, f"rm -f {HOLD}/*" + (f" && mkfifo {HOLD}/{where}" if name == host else ""))

    def release(self, host, where, word="go"):
        """It goes on, or dies (`die`)."""
        self.lab.sh(host, f"[ -p {HOLD}/{where} ] && echo {word} >{HOLD}/{where}", timeout=20)

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
        self.first_answer = 0 if self.hosts.ssh else len(self.hosts.answers[self.dst].lines)
        script = "" if self.hosts.ssh else f"-s {transport}"
        self.stamp("start")
        self.xl = Lines(self.lab, self.src,
                        f"echo start; export POSTCOPY_OPTIONS='{self.hosts.serve_options}'; {env} exec xl -T migrate "
                        f"{' '.join(options)} {script} {shlex.quote(self.name)} {self.dst} 2>&1")

    def lines_of(self, role):
        """(the lines in which `src` or `dst` speaks, the first of this move); ssh brings the receiver's to xl's."""
        if role == "src" or self.hosts.ssh:
            return self.xl, 0
        return self.hosts.answers[self.dst], self.first_answer

    def at(self, role, phase, timeout=120):
        """Waits for a phase's line of ours on a side (`src`, `dst`); its time, None if xl ended before."""
        lines, first = self.lines_of(role)
        return lines.until("^start$" if phase == "start" else rf"postcopy: {re.escape(phase)}", timeout, first)

    def held(self, role, where, timeout=120):
        """Waits until the hook script of a side stands there; see Hosts.hold()."""
        lines, first = self.lines_of(role)
        check(lines.until(f"^held: {where}$", timeout, first) is not None,
              f"the hook script on {self.src if role == 'src' else self.dst} is held at {where}"
              + (f": {self.said()[-1500:]}" if self.xl.ended else ""))

    def phases(self):
        """Seconds of each phase, of a move that has ended well."""
        return {phase: round(self.at(*end) - self.at(*start), 3) for phase, (start, end) in PHASES.items()}

    def marked_before_suspend(self, receive, most_late=None):
        """Marking was done while the guest ran, but for what has changed since. receive: its figures."""
        pages = receive["pages"]
        before = self.at("src", "suspending") - self.at("dst", "marked early")
        check(before > 0, f"marked early {before:.3f} s before the guest was asked to suspend")
        check(pages["marked_early"] + pages["marked_late"] == pages["set"]
              and (most_late is None or pages["marked_late"] <= most_late),
              f"of {pages['set']} pages {pages['marked_late']} were marked inside suspend, and {pages['unmarked']} "
              f"made holes again; {receive['marking_us']['early'] / 1000:.1f} ms before, "
              f"{receive['marking_us']['late'] / 1000:.1f} ms inside")

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
        lines, first = self.lines_of("dst")
        return "\n".join(line for _, line in lines.lines[first:])

    def said(self):
        """What both sides have said."""
        return self.xl.text() if self.hosts.ssh else self.xl.text() + "\n" + self.answer_text()

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

    def failed(self, wanted, timeout=180):
        """The move has ended badly, with that text in what one of the two sides said."""
        code = self.finish(timeout)
        said = self.said()
        check(code != 0 and wanted in said, f"xl migrate: exit status {code}, says '{wanted}'"
              + ("" if code and wanted in said else f": {said[-2500:]}"))

    def unharmed(self, when, patience=20):
        """The guest goes on at the source, under its name; there is nothing of the move on either host."""
        lab = self.lab
        lab.sh(self.src, f"for i in $(seq 600); do xl domid {self.name} >/dev/null 2>&1 && exit 0; usleep 100000; "
               "done; exit 1", timeout=90)
        check(self.runs_on(self.src, 60), f"{when}: the guest goes on at {self.src}, under its name")
        for host, own in ((self.src, 1), (self.dst, 0)):
            clean(lab, host, self.name, own, when, patience)


LEFT = """
while :; do
    left=$(xl list | awk '$1 ~ /^%(name)s(--.*)?$/ { print $1 }' | tail -n +%(first)d
           for p in /proc/[0-9]*/cmdline; do mapfile -d '' -t words <$p && echo "${words[*]} "; done 2>/dev/null |
               grep -E '%(processes)s'
           ls -A /run/xenpaging-pc 2>/dev/null | grep -v -e last.json -e '^empty$'
           xenstore-ls -f /local/domain 2>/dev/null | grep '/postcopy'
           xl list | awk 'NR > 1 { print $2 }' >/run/domids
           { xenstore-list /local/domain; xenstore-list /libxl; } | sort -u | grep -vxFf /run/domids |
               sed 's/^/xenstore of domain /')
    [ -z "$left" ] && exit 0
    [ $SECONDS -lt %(patience)d ] || break
    usleep 100000
done
echo $left
"""


def clean(lab, host, name, own, when, patience=20):
    """Nothing of a move is left on a host: domains, processes, xenstore, /run. own: domains of that name that belong
    there (xl of a guest that came by migration stays with it)."""
    xl = "^xl .*migrate" + (" " if own else "")
    processes = rf"{xl}|^([^ ]*/)?(xenpaging-pc|libxl-save-helper) |^[^ ]*sh (/usr/bin/via|{HOOK})"
    left = lab.sh(host, LEFT % {"name": name, "first": own + 1, "processes": processes, "patience": patience},
                  timeout=patience + 60).strip()
    check(left == "", f"{when}: nothing is left on {host}" + (f": {left}" if left else ""))


def memory(lab, host):
    """Memory of a host that nobody has, and that somebody has claimed, MiB."""
    return lab.sh(host, "xl info | grep -e ^free_memory -e ^outstanding_claims | tr -s '\n ' ' '").strip()


def running(lab, name):
    """Hosts on which a domain of that name, or of what it is called while it moves, has vcpus that may run; one for
    each such domain."""
    where = []
    for host in lab.names:
        for line in lab.sh(host, "xl list").splitlines()[1:]:
            words = line.split()
            if words[0].partition("--")[0] == name and not set(words[4]) & set("pscd"):
                where.append(host)
    return where
