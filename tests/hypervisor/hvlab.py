"""One Xen host, a guest, and pagectl on it: what the hypervisor tests are made of."""

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cases"))

from lab import LAB, TOP, Failure, check  # noqa: E402

BUILD = os.path.join(TOP, "build/hypervisor-tests")


class Lines:
    """Lines of a process as they come; what was read once is not offered again."""

    def __init__(self, argv, name, **kwargs):
        self.name = name
        self.seen = []
        self._queue = queue.Queue()
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace", bufsize=1,
                                        start_new_session=True, **kwargs)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\r\n"))
        self._queue.put(None)

    def next(self, deadline):
        """The next line; None after the last one. TimeoutError at the deadline (time.monotonic)."""
        try:
            line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            self._queue.put(None)
        else:
            self.seen.append(line)
        return line

    def until(self, pattern, timeout):
        """Reads on to a line that matches; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.next(deadline)
            except TimeoutError:
                raise Failure(f"{self.name}: no line like {pattern!r} within {timeout} s; last: {self.seen[-3:]}") \
                    from None
            if line is None:
                raise Failure(f"{self.name} ended before a line like {pattern!r}; last: {self.seen[-3:]}")
            match = re.search(pattern, line)
            if match:
                return match

    def drain(self):
        """Everything that has come by now."""
        lines = []
        while True:
            try:
                line = self._queue.get_nowait()
            except queue.Empty:
                return lines
            if line is None:
                self._queue.put(None)
                return lines
            self.seen.append(line)
            lines.append(line)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


class Pagectl(Lines):
    """tests/hypervisor/pagectl in dom0, attached to a domain."""

    def __init__(self, domid, *ring):
        super().__init__([LAB, "exec", "a", "--", "pagectl", str(domid), *map(str, ring)], "pagectl",
                         stdin=subprocess.PIPE)
        match = self.until(r"^attached slots=(\d+) gfns=(\d+)", 30)
        self.slots, self.gfns = int(match[1]), int(match[2])
        self.requests = []

    def next(self, deadline):
        line = super().next(deadline)
        if line and line.startswith("request "):
            fields = dict(word.split("=") for word in line.split()[1:])
            self.requests.append({k: int(v, 16 if k == "gfn" else 10) for k, v in fields.items()})
        return line

    def send(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def do(self, command, timeout=60, may_fail=False):
        """Lines that a command printed (requests that came meanwhile included)."""
        start = len(self.seen)
        self.send(command)
        match = self.until(rf"^(ok|error) {re.escape(command)}(: .*)?$", timeout)
        if match[1] == "error" and not may_fail:
            raise Failure(f"pagectl: {match[0]}")
        return self.seen[start:]

    def values(self, command, prefix):
        """Fields of the line with that prefix, as integers."""
        for line in self.do(command):
            if line.startswith(prefix + " "):
                return {k: int(v) for k, v in (w.split("=") for w in line.split() if "=" in w)}
        raise Failure(f"pagectl {command}: no {prefix} line")

    def cpu_ns(self):
        """CPU time of each vcpu in ns."""
        lines = self.do("vcpus")
        return [int(m[1]) for line in lines if (m := re.match(r"vcpu \d+ .*cpu_ns=(\d+)", line))]

    def wait_requests(self, count, timeout):
        """Until count requests have come in all; returns them."""
        deadline = time.monotonic() + timeout
        while len(self.requests) < count:
            try:
                if self.next(deadline) is None:
                    raise Failure(f"pagectl ended after {len(self.requests)} requests")
            except TimeoutError:
                raise Failure(f"{len(self.requests)} of {count} requests within {timeout} s") from None
        return self.requests


class Bench:
    """The host, called a, with pagectl on it; down again on leaving, state kept if a test fails."""

    def __init__(self, xen):
        self.xen = xen
        self._lines = []
        self._folder = None
        os.environ.setdefault("LAB_DIR", os.path.join(TOP, "build/lab", "hv-" + os.path.basename(sys.argv[0])))
        # the lab ends with us, whatever happens to us
        os.environ.setdefault("LAB_OWNER_PID", str(os.getpid()))

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        self._folder = tempfile.mkdtemp(prefix="hypervisor-test-")
        started = time.monotonic()
        self.lab("up", "--hosts", "1", "--xen", self.xen)
        self.lab("put", "a", os.path.join(BUILD, "pagectl"), "/usr/sbin/pagectl")
        print(f"host up after {time.monotonic() - started:.1f} s, hypervisor {self.xen}", flush=True)
        return self

    def __exit__(self, kind, value, trace):
        for lines in self._lines:
            lines.end()
        if kind is not None and not issubclass(kind, SystemExit):
            state = os.path.join(TOP, "build/kept", os.path.basename(os.environ["LAB_DIR"]))
            print(f"failed; state kept in {state}; last lines of the host's console:", flush=True)
            print("\n".join(self.serial().splitlines()[-25:]), flush=True)
            self.lab("save-state", state, status=None, stdout=subprocess.DEVNULL)
        self.lab("down", status=None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def lab(self, verb, *args, status=0, **kwargs):
        done = subprocess.run([LAB, verb, *args], stdin=subprocess.DEVNULL, check=False, **kwargs)
        if status is not None and done.returncode != status:
            raise Failure(f"lab {verb} {' '.join(args)}: exit status {done.returncode}")
        return done

    def sh(self, command, timeout=60):
        """Standard output of a shell command in dom0."""
        done = subprocess.run([LAB, "exec", "a", "--timeout", str(timeout), "--", "sh", "-c", command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise Failure(f"{command}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def serial(self):
        path = self.lab("serial", "a", capture_output=True, text=True).stdout.strip()
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def guest(self, name, program, *arguments, vcpus=1, memory=256, cfg=(), paused=False):
        """A PVH guest that runs one of our programs; returns its domid."""
        payload = os.path.join(self._folder, name)
        os.mkdir(payload)
        shutil.copy(os.path.join(BUILD, program), payload)
        with open(os.path.join(payload, "run"), "w", encoding="utf-8") as f:
            # Debian's privcmd makes no hypercalls in a domU unless told so
            f.write("#!/bin/busybox sh\nrmmod xen_privcmd && insmod /lab/modules/xen-privcmd.ko unrestricted=1\n"
                    "exec /payload/" + " ".join([program, *arguments]) + "\n")
        os.chmod(os.path.join(payload, "run"), 0o755)
        lines = [word for line in cfg for word in ("--cfg", line)]
        self.lab("guest", "a", name, "--vcpus", str(vcpus), "--memory", str(memory), "--payload", payload, *lines,
                 *(["--paused"] if paused else []))
        return self.domid(name)

    def bare(self, name, program, vcpus=1, memory=32, paused=False):
        """A PVH guest that is one of our programs and nothing else, no console, no device; returns its domid."""
        self.lab("put", "a", os.path.join(BUILD, program), f"/var/{program}")
        config = (f'name="{name}"', 'type="pvh"', f'kernel="/var/{program}"', f"memory={memory}", f"vcpus={vcpus}",
                  'on_crash="preserve"', 'tsc_mode="native"')
        words = " ".join(f"'{line}'" for line in config)
        self.sh(f"printf '%s\\n' {words} >/var/{name}.cfg && xl create {'-p' if paused else ''} /var/{name}.cfg")
        return self.domid(name)

    def said(self, domid, text, timeout=30):
        """The first line with that text in it that a domain has written to port 0xe9."""
        done = self.lab("serial", "a", "--wait", f"(d{domid}) {text}", "--timeout", str(timeout), status=None,
                        capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"domain {domid} has not said {text!r} within {timeout} s")
        return done.stdout

    def domid(self, name):
        return int(self.sh(f"xl domid {name}"))

    def console(self, name):
        """Lines of a guest's console, from its start on."""
        lines = Lines([LAB, "console", "a", name, "--follow"], f"console of {name}", stdin=subprocess.DEVNULL)
        self._lines.append(lines)
        return lines

    def pagectl(self, domid, *ring):
        """ring: frames [range_target range_foreign] of a ring that is a resource."""
        lines = Pagectl(domid, *ring)
        self._lines.append(lines)
        return lines

    def alive(self, name, why):
        """The host answers, and the domain has not been crashed."""
        listing = self.sh(f"xl list {name}", timeout=30).splitlines()[-1].split()
        check(not set(listing[4]) & set("csd"), f"domain lives {why} (state {listing[4]})")


def rounds(console, timeout=30):
    """How often each thread of `touch` has been round, from its next line."""
    console.drain()
    return [int(n) for n in console.until(r"^TICK \d+ ([\d ]+)$", timeout)[1].split()]


def all_go_on(console, what, timeout=60):
    """Every thread of `touch` gets somewhere from now on."""
    first = rounds(console, timeout)
    deadline = time.monotonic() + timeout
    now = first
    while not all(b > a for a, b in zip(first, now)):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: threads stand still: {first} then {now}")
        now = rounds(console, timeout)
    check(not any("WRONG" in line for line in console.seen), f"{what}: all threads go on, no wrong word")


def main(test, default_xen=os.environ.get("LAB_XEN", "release")):
    """Runs test(bench) once; --xen DIR|release|debug picks the hypervisor (default: what the test is about, or LAB_XEN)."""
    parser = argparse.ArgumentParser(description=test.__doc__)
    parser.add_argument("--xen", default=default_xen, metavar="release|debug|DIR")
    args = parser.parse_args()
    subprocess.run(["make", "-s", "-C", os.path.dirname(os.path.abspath(__file__)), f"OUT={BUILD}"], check=True)
    started = time.monotonic()
    try:
        with Bench(args.xen) as bench:
            test(bench)
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
    print(f"passed after {time.monotonic() - started:.0f} s", flush=True)
