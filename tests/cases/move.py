"""One guest moved from host a to host b with stock `xl save -p`, `xl restore -p` and xenpaging-pc.

The steps are methods, so that a failure test can stop between any two of them.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time

from lab import TOP, Failure, check

ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
STREAM_PORT = 7001
PAGER_PORT = 7002


class Move:
    def __init__(self, lab, name="g", memory=256, vcpus=2, witness=(), serve=(), receive=(), src="a", dst="b",
                 guest=()):
        self.lab, self.name, self.memory, self.vcpus = lab, name, memory, vcpus
        self.witness, self.serve_args, self.receive_args = list(witness), list(serve), list(receive)
        self.src, self.dst = src, dst
        self.guest_args = list(guest)
        self.times = {}
        self.agreed = None  # the destination's status when the guest might run

    def stamp(self, what):
        self.times[what] = time.monotonic()

    def took(self, start, end):
        return round(self.times[end] - self.times[start], 3)

    # -- the guest on the source

    def start_guest(self, variant=()):
        """variant: options of tests/witness/make-payload other than memwitness's own."""
        payload = tempfile.mkdtemp(prefix="payload.", dir=os.environ["LAB_DIR"])
        try:
            subprocess.run([os.path.join(TOP, "tests/witness/make-payload"), *variant, payload, "--commands",
                            *self.witness],
                           check=True)
            self.lab.run("guest", self.src, self.name, "--memory", str(self.memory), "--vcpus", str(self.vcpus),
                         "--payload", payload, *self.guest_args)
        finally:
            shutil.rmtree(payload)
        self.stamp("guest")

    def wait_working(self, timeout=120):
        """Until memwitness has filled its buffer and reported its first work."""
        return json.loads(self.lab.follow(self.src, self.name, is_event("work"), timeout))

    # -- the move

    def save_and_restore(self):
        """Suspends the guest on the source (it stays there, paused) and restores it, paused, on the destination."""
        name = shlex.quote(self.name)
        self.stamp("save")
        receiver = self.lab.background(
            self.dst, f"rm -f /run/r.{name}; mkfifo /run/r.{name} && "
            f"{{ socat -u -b 262144 TCP-LISTEN:{STREAM_PORT},reuseaddr OPEN:/run/r.{name},wronly & }} && "
            f"xl restore -p /run/r.{name} >/var/log/restore.log 2>&1; rc=$?; cat /var/log/restore.log; exit $rc")
        sender = self.lab.sh(
            self.src, f"rm -f /run/s.{name}; mkfifo /run/s.{name} && "
            f"{{ socat -u -b 262144 OPEN:/run/s.{name},rdonly TCP:{ADDRESS[self.dst]}:{STREAM_PORT},retry=100,"
            f"interval=0.1 & }} && xl save -p {name} /run/s.{name} 2>&1", timeout=300)
        out, _ = receiver.communicate(timeout=300)
        if receiver.returncode:
            raise Failure(f"xl restore on {self.dst}: exit status {receiver.returncode}: {out}; save said: {sender}")
        self.stamp("restored")

    def start_serve(self):
        token = secrets.token_hex(32)
        for host in (self.src, self.dst):
            self.lab.sh(host, f"umask 077; mkdir -p /run/move; echo {token} >/run/move/token")
        self.lab.sh(self.src, "rm -f /run/move/serve.json; xenpaging-pc serve --daemon "
                    f"--pid-file /run/move/serve.pid --log /var/log/serve.log --stats-file /run/move/serve.json "
                    f"--domain {shlex.quote(self.name)} --listen {ADDRESS[self.src]}:{PAGER_PORT} "
                    f"--token-file /run/move/token {' '.join(self.serve_args)}")

    def start_receive(self, check_status=True):
        """Returns when the set is agreed and the guest may run (state active)."""
        self.stamp("mark")
        command = ("rm -f /run/move/receive.json; xenpaging-pc receive --daemon --pid-file /run/move/receive.pid "
                   "--log /var/log/receive.log --stats-file /run/move/receive.json "
                   f"--domain {shlex.quote(self.name)} --connect {ADDRESS[self.src]}:{PAGER_PORT} "
                   f"--token-file /run/move/token {' '.join(self.receive_args)}")
        result = self.lab.status(self.dst, command, timeout=120)
        if check_status and result[0]:
            raise Failure(f"receive on {self.dst}: exit status {result[0]}: {result[2].strip()}")
        return result

    def wait_state(self, state, timeout=300, host=None):
        host = host or self.dst
        code, out, err = self.lab.status(
            host, f"xenpaging-pc status --json --wait {state} --timeout {timeout} {shlex.quote(self.name)}",
            timeout=timeout + 10)
        if code:
            raise Failure(f"{host}: state {state} did not come: {out} {err}")
        return json.loads(out)

    def status(self, host=None, role="receive"):
        """The latest session of a role, live or ended, that a host has had of this guest."""
        out = self.lab.sh(host or self.dst, f"xenpaging-pc status --json --role {role} {shlex.quote(self.name)}")
        return max((json.loads(line) for line in out.splitlines()), key=lambda report: report["started_at"])

    def wait_waiting(self, timeout=60):
        """Until a vcpu of the guest waits for a page; returns the status then."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status = self.status()
            if status["ring"]["waiting"]:
                return status
        raise Failure(f"{self.dst}: no vcpu of {self.name} came to wait within {timeout} s")

    def unpause(self):
        self.stamp("unpause")
        self.lab.sh(self.dst, f"xl unpause {shlex.quote(self.name)}")

    def wait_ended(self, role, timeout=300):
        """Waits until a role has ended, well or not; returns its final statistics."""
        host = {"serve": self.src, "receive": self.dst}[role]
        code, out, err = self.lab.status(
            host, f"xenpaging-pc status --json --wait ended --role {role} --timeout {timeout} "
            f"{shlex.quote(self.name)} >/dev/null && cat /run/move/{role}.json", timeout + 10)
        if code:
            raise Failure(f"{role} on {host} did not end within {timeout} s: {err} {json.dumps(self.status(host, role))}")
        return json.loads(out)

    def wait_completed(self, timeout=300):
        """Waits for both ends' processes and returns (receive's, serve's) final statistics."""
        receive = self.wait_ended("receive", timeout)
        self.stamp("completed")
        return receive, self.wait_ended("serve", timeout)

    def run(self):
        """The whole move; returns (receive's, serve's) statistics."""
        self.save_and_restore()
        self.start_serve()
        self.start_receive()
        self.agreed = self.wait_state("active")
        self.stamp("active")
        self.unpause()
        return self.wait_completed()

    # -- what the guest saw

    def wait_sweep(self, timeout=300):
        """A full sweep of the guest's buffer, now; returns memwitness's report of it."""
        seen = self.lab.console(self.dst, self.name).count('"type":"sweep"')
        self.tell("sweep")
        return self.next_report("sweep", seen, timeout)

    def statistics(self, timeout=60):
        """memwitness's full statistics up to now."""
        seen = self.lab.console(self.dst, self.name).count('"type":"stats"')
        self.tell("stats")
        return self.next_report("stats", seen, timeout)

    def next_report(self, kind, seen, timeout):
        """The report of a kind that comes after `seen` others of it."""
        left = [seen]

        def wanted(line):
            if is_event(kind)(line):
                left[0] -= 1
            return left[0] < 0
        return json.loads(self.lab.follow(self.dst, self.name, wanted, timeout))

    def tell(self, command, host=None):
        """A command to memwitness, through the guest's console."""
        host = host or self.dst
        self.lab.sh(host, f"tty=$(xenstore-read /local/domain/$(xl domid {shlex.quote(self.name)})/console/tty) && "
                          f"echo {command} >$tty")

    def end(self):
        for host in (self.src, self.dst):
            self.lab.status(host, f"xl destroy {shlex.quote(self.name)}")


def is_event(kind):
    def wanted(line):
        try:
            return json.loads(line).get("type") == kind
        except (ValueError, AttributeError):
            return False
    return wanted


def no_corruption(lab, host, name):
    console = lab.console(host, name)
    bad = [line for line in console.splitlines() if is_event("corruption")(line)]
    check(not bad, f"no corruption reported by {name} on {host}" + (f": {bad[0]}" if bad else ""))
