"""A guest moved from a host to itself in exact mode: one emulated host, a shaped lo, virtual time.

What a job prints comes back as a log, the same bytes whenever the same programs run; Move picks it apart. Logs stay in
build/exact-logs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

from lab import LAB, TOP, Failure

PATH_LOCK = threading.Lock()
MIB = 256  # of the guest, unless the caller says otherwise
LINK = "delay 1ms rate 200mbit"
# One small batch on its way at a time: a page that a vcpu waits for stands behind it.
RECEIVE = "--verify --push on-fault --pool-pages 32"

# The guest ticks into the hypervisor's console, whose lines carry Xen's time: the outage as it is seen from outside.
PREPARE = """#!/bin/bash
set -e
%s
mkdir -p /lab/guests /etc/xen/scripts
cp g.cpio g.cfg /lab/guests/
[ ! -e hvm-setup ] || sh ./hvm-setup
cp via answer foreign-map superpages /usr/bin/
cp xenpaging-pc /usr/sbin/
cp postcopy /etc/xen/scripts/
xl create /lab/guests/g.cfg
timeout 1000 lab-agent follow /var/log/xen/console/guest-g.log '%s' >/dev/null
"""

# Both ends' lines carry dom0's clock. The two pairs of stamps round a line of Xen's tell Xen's from dom0's.
MOVE = """#!/bin/bash
export POSTCOPY_OPTIONS= PATH=$PATH:/usr/sbin
xl sched-credit2 -d Domain-0 -w %(weight)d
tc qdisc add dev lo root netem %(link)s limit 20000
POSTCOPY_OPTIONS='%(receive)s' /usr/bin/answer 2>&1 | lab-agent stamp >/tmp/answer.log &
for i in $(seq 100); do ss -ltn | grep -q :7003 && break; usleep 50000; done
echo x $EPOCHREALTIME | lab-agent stamp | sed 's/^/clock before /'
xl debug-keys t
echo x $EPOCHREALTIME | lab-agent stamp | sed 's/^/clock after /'
%(before)s
# what an undisturbed guest does: long enough to outweigh what has just run
usleep 5000000
{
    xl -T migrate %(options)s -s /usr/bin/via g 127.0.0.1 2>&1
    echo "xl migrate: exit status $?"
} | lab-agent stamp >/tmp/xl.log &
xl=$!
logs() {
    tr '\\r' '\\n' </tmp/xl.log | sed 's/^/xl /'
    sed 's/^/answer /' /tmp/answer.log
}
received() { # is over; a plain migration has none to wait for
    [ ! -e /var/log/xen/postcopy-receive-g.log ] ||
        xenpaging-pc status --role receive --wait ended --timeout 300 >/dev/null 2>&1
}
%(meanwhile)s
%(until)s
wait $xl
if ! tail -n 1 /tmp/xl.log | grep -q 'exit status 0'; then
    # what the guest died of, if it did: a crashed one is kept
    tail -n 60 /var/log/xen/console/guest-g.log | sed 's/^/console /'
    for vcpu in 0 1; do /usr/lib/xen-4.17/bin/xenctx -C $(xl domid g) $vcpu; done 2>&1 | sed 's/^/xenctx /'
    xl list
    logs
    sed 's/^/log /' /var/log/xen/postcopy-receive-g.log
    exit 1
fi
tty=$(xenstore-read /local/domain/$(xl domid g)/console/tty)
console=/var/log/xen/console/guest-g--incoming.log
guest() { # COMMAND: the report that comes after it, as soon as it has come
    lines=$(wc -l <$console)
    mkfifo /tmp/follow.$1
    timeout 200 lab-agent follow $console >/tmp/follow.$1 &
    echo $1 >$tty
    while read -r line; do
        if [ $((lines -= 1)) -lt 0 ] && [[ $line == *"\\"type\\":\\"$1\\""* ]]; then
            echo "$line" >/tmp/$1
            break
        fi
    done </tmp/follow.$1
}
guest sweep
guest stats
# no tick of its may cut a line in two
xl pause g
cat /tmp/sweep /tmp/stats
received
xenpaging-pc status --json --role receive 2>/dev/null | sed 's/^/receive /'
logs
xl list
kill $(pidof socat) 2>/dev/null
%(after)s
"""


UNTIL = """
timeout 200 lab-agent follow /var/log/xen/console/guest-g--incoming.log '"type"' >/dev/null
sleep %(seconds)s
xl pause g
xenpaging-pc status --json --role receive 2>/dev/null | sed 's/^/receive /'
logs
%(after)s
exit 0
"""


def job(options="", receive=RECEIVE, weight=512, link=LINK, before="", meanwhile="", after="", until=""):
    """What a move's job runs, as text. before, meanwhile, after: lines of shell. until: so many seconds after the guest's
    first word on its new host the job ends, whether the move has or not."""
    return MOVE % {"options": options, "receive": receive, "weight": weight, "link": link, "before": before,
                   "meanwhile": meanwhile, "after": after,
                   "until": UNTIL % {"seconds": until, "after": after} if until else ""}


def script(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)


def cured_qemu():
    """The lab's QEMU from now on: one that delivers no interrupt twice (tests/smp/README.md). A busy guest of exact mode
    dies of that within a minute, as the end of each slice of instructions is what triggers it."""
    built = subprocess.run([os.path.join(TOP, "tests/smp/build-qemu")], check=True, stdout=subprocess.PIPE, text=True)
    folder = os.path.join(TOP, "build/smp/bin")
    os.makedirs(folder, exist_ok=True)
    new = os.path.join(folder, f"new-{os.getpid()}-{threading.get_ident()}")
    script(new, "#!/bin/sh\nexport SMP_FIX=1\n"
           f"exec {built.stdout.strip()} -L /usr/share/qemu -L /usr/share/seabios \"$@\"\n")
    os.rename(new, os.path.join(folder, "qemu-system-x86_64"))
    with PATH_LOCK:
        if folder not in os.environ["PATH"].split(":"):
            os.environ["PATH"] = folder + ":" + os.environ["PATH"]


class Exact:
    """The snapshot that moves start from: a host on which guest g works."""

    def __init__(self, name, mib=MIB, rate=20000, witness_mib=None, host=(), pager="build/pager/xenpaging-pc",
                 prepare="", guest=(), payload=None, ready='"type":"work"', files=()):
        """host: options of `lab exact-prepare`; prepare: lines of shell, before anything else; guest: options of
        `lab guest`, for another than a PVH guest with two vcpus; payload: the guest's, in place of memwitness alone;
        ready: what is on its console when it works; files: more that prepare finds beside it."""
        self.name = f"{name}-{os.getpid()}"
        self.mib, self.rate, self.witness_mib = mib, rate, witness_mib or mib // 2
        self.host, self.pager, self.prepare, self.guest = list(host), pager, prepare, list(guest)
        self.payload, self.ready, self.files = payload, ready, list(files)
        self.work = tempfile.mkdtemp(prefix=name + ".")
        self.logs = os.path.join(TOP, "build/exact-logs", name)

    def __enter__(self):
        # hosts end with this process, whatever happens to it
        os.environ.setdefault("LAB_OWNER_PID", str(os.getpid()))
        try:
            self._prepare()
        except BaseException:
            shutil.rmtree(self.work)
            raise
        return self

    def _prepare(self):
        payload, folder = self.payload or os.path.join(self.work, "payload"), os.path.join(self.work, "prepare")
        os.mkdir(folder)
        cured_qemu()
        if not self.payload:
            subprocess.run([os.path.join(TOP, "tests/witness/make-payload"), payload, "--commands", "--mib",
                            str(self.witness_mib), "--threads", "2", "--rate", str(self.rate)], check=True)
        subprocess.run(["make", "-s", "-C", os.path.join(TOP, "tests/bench"), "OUT=../../build/bench"], check=True)
        subprocess.run([LAB, "guest-files", folder, "g", "--payload", payload, "--memory", str(self.mib), "--vcpus", "2",
                        *self.guest], check=True)
        for source in ("tests/cases/transport/via", "tests/cases/transport/answer", self.pager,
                       "pager/hooks/postcopy", "build/bench/foreign-map", "build/bench/superpages", *self.files):
            shutil.copy(os.path.join(TOP, source), folder)
        script(os.path.join(folder, "run"), PREPARE % (self.prepare, self.ready))
        subprocess.run([LAB, "exact-prepare", self.name, folder, "--timeout", "1800", *self.host], check=True)

    def __exit__(self, *_):
        shutil.rmtree(self.work)
        pointer = os.path.join(TOP, "build/lab/exact", self.name + ".json")
        if os.path.exists(pointer):
            os.remove(pointer)

    def start(self, name, options="", whole=True, **how):
        """Starts a move in the background; its name is unique. how: as job() has it. whole: without it meanwhile ends
        the job."""
        folder = os.path.join(self.work, name)
        os.mkdir(folder)
        script(os.path.join(folder, "run"), job(options, **how))
        os.makedirs(self.logs, exist_ok=True)
        log = os.path.join(self.logs, name + ".log")
        process = subprocess.Popen([LAB, "exact", self.name, folder, "--timeout", "1500", "--log", log],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return Move(name, process, log, whole and not how.get("until"))


class Move:
    def __init__(self, name, process, path, whole):
        self.name, self.process, self.path, self.whole = name, process, path, whole
        self.log = None

    def wait(self):
        """Until the job has ended well."""
        _, err = self.process.communicate()
        with open(self.path, encoding="utf-8", errors="replace") as f:
            self.log = f.read()
        if self.process.returncode:
            raise Failure(f"{self.name}: the job ends with {self.process.returncode}: {err} {self.log[-3000:]}")
        if self.whole and not re.search(r"^xl \d+ xl migrate: exit status 0$", self.log, re.M):
            raise Failure(f"{self.name}: xl migrate failed: {self.log[-3000:]}")
        return self

    def at(self, side, text):
        """dom0's clock in us at a side's (xl, answer) first line with that text."""
        match = re.search(rf"^{side} (\d+) .*{re.escape(text)}", self.log, re.M)
        if not match:
            raise Failure(f"{self.name}: no line '{text}' of {side}: {self.log[-3000:]}")
        return int(match[1])

    def took_ms(self, start, end):
        """start, end: (side, text)."""
        return round((self.at(*end) - self.at(*start)) / 1000, 3)

    def seconds(self, side):
        """From a side's first line to its last."""
        stamps = [int(us) for us in re.findall(rf"^{side} (\d+) ", self.log, re.M)]
        return round((stamps[-1] - stamps[0]) / 1e6, 3)

    def json(self, pattern):
        """The last line that matches, from its first brace on; None without one."""
        lines = [line for line in self.log.splitlines() if re.search(pattern, line)]
        return json.loads(lines[-1][lines[-1].index("{"):]) if lines else None

    def receive(self):
        return self.json(r"^receive \{")

    def xen_minus_dom0(self):
        """us to add to dom0's clock to get Xen's; good to the run time of a small program."""
        around = re.search(r"^clock before (\d+) x.*?^\(XEN\) \[ *([\d.]+)\].*?^clock after (\d+) x", self.log,
                           re.M | re.S)
        if not around:
            raise Failure(f"{self.name}: no line of Xen's between two of dom0's")
        return round(float(around[2]) * 1e6 - (int(around[1]) + int(around[3])) / 2)

    def real_minus_dom0(self):
        """us to add to dom0's clock to get its time of day, which is what logs are stamped with."""
        pairs = re.findall(r"^clock \w+ (\d+) x (\d+)\.(\d+)$", self.log, re.M)
        return max(int(seconds + fraction) - int(us) for us, seconds, fraction in pairs)

    def ticks(self):
        """What tests/witness/analyse says of the guest's ticks, in virtual time."""
        path = self.path + ".serial"
        with open(path, "w", encoding="utf-8") as f:
            for dom, seconds, text in re.findall(r"\(d(\d+)\) \[ *([\d.]+)\] (.*)", self.log):
                f.write(f"{round(float(seconds) * 1e6)} (d{dom}) {text}\n")
        start = re.search(r"^xl (\d+) ", self.log, re.M)
        out = subprocess.run([sys.executable, os.path.join(TOP, "tests/witness/analyse"), "--serial", f"a={path}",
                              "--disturbed-from", str(int(start[1]) + self.xen_minus_dom0())],
                             capture_output=True, text=True, check=False)
        if out.returncode:
            raise Failure(f"{self.name}: ticks: {out.stdout[:500]} {out.stderr}")
        return json.loads(out.stdout)["serial"]
