"""The lab from Python: two real Xen hosts, brought up on entering and down on leaving, also on failure or interrupt."""

import os
import shlex
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(TOP, "tests/lab/lab")
STARTED = time.monotonic()


class Failure(Exception):
    """A test that does not hold; main() keeps the lab's state and prints it."""


def check(condition, message):
    if not condition:
        raise Failure(message)
    print(f"{time.monotonic() - STARTED:5.0f} s ok: {message}", flush=True)


class Lab:
    def __init__(self, hosts=2, xen=os.environ.get("LAB_XEN", "release"), dom0_weight=512, single=(), packaged=False,
                 **options):
        """single: what is different for one host (b:xen=stock), as `lab up --host` takes it. packaged: the hosts have
        xenpaging-pc and its hook script, or are to have none: they get nothing of this tree's."""
        self.up_args = ["--hosts", str(hosts), "--xen", xen]
        for word in single:
            self.up_args += ["--host", word]
        for key, value in options.items():
            self.up_args += ["--" + key.replace("_", "-"), str(value)]
        self.names = [chr(ord("a") + i) for i in range(hosts)]
        self.xen = xen
        self.packaged = packaged
        self.dom0_weight = dom0_weight  # of the credit2 scheduler; Xen's default is 256
        # every lab ends with the process that brought it up, whatever happens to it
        os.environ.setdefault("LAB_OWNER_PID", str(os.getpid()))
        os.environ.setdefault("LAB_DIR", os.path.join(TOP, "build/lab", os.path.basename(sys.argv[0])))

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        started = time.monotonic()
        self.run("up", *self.up_args)
        print(f"hosts {', '.join(self.names)} ({self.xen} hypervisor) up after {time.monotonic() - started:.1f} s",
              flush=True)
        for host in self.names:
            if not self.packaged:
                self.put(host, os.path.join(TOP, "build/pager/xenpaging-pc"), "/usr/sbin/xenpaging-pc")
            # a host has one CPU: without this a guest's busy vcpus leave dom0, which serves them all, a third of it
            self.sh(host, f"xl sched-credit2 -d Domain-0 -w {self.dom0_weight}")
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not SystemExit:
            print(f"failed: {value}; keeping the state in {self.state_dir()}", flush=True)
            self.run("save-state", self.state_dir(), check_status=False)
        self.run("down", check_status=False)

    def state_dir(self):
        return os.path.join(TOP, "build/kept", os.path.basename(os.environ["LAB_DIR"]))

    def run(self, verb, *args, check_status=True, **kwargs):
        result = subprocess.run([LAB, verb, *args], check=False, **kwargs)
        if check_status and result.returncode:
            said = result.stderr or b""
            said = said if isinstance(said, str) else said.decode(errors="replace")
            raise Failure(f"lab {verb} {' '.join(args)}: exit status {result.returncode} {said[-500:]}")
        return result

    def sh(self, host, command, timeout=60, check_status=True):
        """Runs a shell command in dom0 of a host and returns its standard output."""
        r = subprocess.run([LAB, "exec", host, "--timeout", str(timeout), "--", "sh", "-c", command],
                           capture_output=True, text=True, errors="replace", check=False)
        if check_status and r.returncode:
            raise Failure(f"{host}: {command}: exit status {r.returncode}: {(r.stderr or r.stdout).strip()}")
        return r.stdout

    def status(self, host, command, timeout=60):
        """Exit status, standard output and standard error of a shell command in dom0."""
        r = subprocess.run([LAB, "exec", host, "--timeout", str(timeout), "--", "sh", "-c", command],
                           capture_output=True, text=True, errors="replace", check=False)
        return r.returncode, r.stdout, r.stderr

    def pid(self, host, pattern):
        """Pid of the oldest process in dom0 whose command line matches, which may be about to start; write `[x]l` for
        `xl`, or the shell that looks is found, too."""
        return self.sh(host, f"like='{pattern}'; for i in $(seq 100); do "
                       "for p in $(ls /proc | grep '^[0-9]' | sort -n); do "
                       "mapfile -d '' -t words </proc/$p/cmdline && [[ \"${words[*]}\" =~ $like ]] && "
                       "echo $p && exit; done 2>/dev/null; usleep 100000; done; "
                       f"echo 'no process like {pattern}' >&2; exit 1").strip()

    def background(self, host, command):
        """A command in dom0 that runs beside the test; the caller waits for it."""
        return subprocess.Popen([LAB, "exec", host, "--", "sh", "-c", command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def put(self, host, local, remote):
        self.run("put", host, local, remote)

    def console(self, host, name):
        r = self.run("console", host, name, capture_output=True, text=True, errors="replace", check_status=False)
        return r.stdout

    def follow(self, host, name, wanted, timeout):
        """Waits until a line of a guest's console satisfies wanted(line); returns that line."""
        p = subprocess.Popen([LAB, "console", host, name, "--follow"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace")
        deadline = time.monotonic() + timeout
        alarm = signal.signal(signal.SIGALRM, _ring)
        signal.alarm(timeout)
        try:
            for line in p.stdout:
                if wanted(line):
                    return line
                if line.startswith("lab: payload ended"):
                    raise Failure(f"{host}: guest {name}: {line.strip()} before the awaited line")
        except TimeoutError:
            pass
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
            p.terminate()
            p.wait()
        raise Failure(f"{host}: console of {name}: the awaited line did not come within {timeout} s"
                      f" ({deadline - time.monotonic():.0f} s left)")

    def serial(self, host):
        r = self.run("serial", host, capture_output=True, text=True)
        return r.stdout.strip()

    def domid(self, host, name):
        code, out, _ = self.status(host, f"xl domid {shlex.quote(name)}")
        return int(out) if code == 0 and out.strip().isdigit() else None


def _ring(*_):
    raise TimeoutError


def main(test):
    """Runs a test function; a Failure is printed and ends with status 1."""
    try:
        test()
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
