"""Moments of an `xl migrate --postcopy` at which a test kills something, and what has to hold then. The hook script
holds the move open there (transport/postcopy-held), so nothing depends on who is faster."""

import contextlib

from lab import Failure, check
from migrate import Migration, clean, memory, running
from move import no_corruption

# name: (host, where its hook script is held); xl on both hosts is in that state then
BEFORE_GO = {
    "prepared": ("a", "serve-before"),
    "channels-open": ("a", "wait-listen-after"),
    "early-marking": ("b", "receive-before"),
    "marked-early": ("b", "wait-listen-after"),
    "stream-sent": ("b", "activate-before"),
    "active": ("b", "activate-after"),
    "ready": ("a", "commit-before"),
}
XL = {"a": "[x]l .*migrate --postcopy", "b": "[x]l .*migrate-receive"}
ROLE = {"a": "serve", "b": "receive"}
SIDE = {"a": "src", "b": "dst"}
MEMORY, BUFFER = 96, 16


class Moments:
    """One guest at a, made anew only when a case has to end with its death."""

    def __init__(self, hosts, name="g"):
        self.hosts, self.lab, self.name = hosts, hosts.lab, name
        witness = ["--mib", str(BUFFER), "--threads", "2", "--rate", "1000", "--report-ms", "500"]
        self.move = Migration(hosts, name=name, memory=MEMORY, vcpus=2, witness=witness)
        self.back = Migration(hosts, name=name, memory=MEMORY, vcpus=2, src="b", dst="a")
        self.empty = {host: memory(self.lab, host) for host in self.lab.names}
        self.fresh()

    def fresh(self):
        self.move.start_guest()
        self.move.wait_working()
        self.with_guest = memory(self.lab, "a")

    # -- on the way

    def hold(self, host, where):
        """Starts a move, which comes to stand there."""
        self.hosts.hold(host, where)
        self.go()
        self.move.held(SIDE[host], where)

    def go(self):
        self.move.start("--postcopy", "--precopy-passes", "0")

    def phase(self, role, phase):
        if self.move.at(role, phase) is None:
            raise Failure(f"xl ended before '{phase}': {self.move.said()[-1500:]}")

    def kill(self, host):
        self.lab.sh(host, f"kill -9 {self.lab.pid(host, XL[host])}")
        print(f"xl on {host} killed", flush=True)

    def interrupt(self):
        self.lab.sh("a", f"kill -INT {self.lab.pid('a', XL['a'])}")

    def transport_gone(self):
        """The transport's process on a has ended: xl cannot send anything any more."""
        self.lab.sh("a", "while usleep 50000; do for p in /proc/[0-9]*/cmdline; do mapfile -d '' -t words <$p && "
                    "[[ \"${words[*]}\" == */bin/via\\ b\\ xl* ]] && continue 2; done 2>/dev/null; exit 0; done",
                    timeout=90)

    @contextlib.contextmanager
    def cut(self):
        self.lab.sh("a", "ip link set link0 down")
        yield
        self.lab.sh("a", "ip link set link0 up")

    # -- what has to hold

    def memory_back(self, when, a):
        for host, was in (("a", a), ("b", self.empty["b"])):
            now = memory(self.lab, host)
            check(now == was, f"{when}: {host} has its memory back ({now})" + (f", it was {was}" if now != was else ""))

    def unharmed(self, when, patience=20):
        """It goes on at a; neither host has anything of the move."""
        self.move.unharmed(when, patience)
        check(running(self.lab, self.name) == ["a"], f"{when}: it runs at a only")
        self.memory_back(when, self.with_guest)

    def swept(self, move):
        sweep = move.wait_sweep()
        check(sweep["wrong_bytes"] == 0 and sweep["pages_swept"] == BUFFER * 256,
              f"{sweep['pages_swept']} pages swept on {move.dst}: no wrong byte")
        no_corruption(self.lab, move.dst, self.name)

    def moved(self, when):
        """It is whole on b, a has nothing of it. Then it is moved back, for the next case."""
        receive = self.move.wait_ended("receive")
        check(receive["state"] == "completed" and receive["pages"]["outstanding"] == 0,
              f"{when}: all {receive['pages']['set']} pages are on b" + f" ({receive['state']}, {receive['reason']})")
        clean(self.lab, "a", self.name, 0, when)
        check(running(self.lab, self.name) == ["b"], f"{when}: it runs at b only")
        self.swept(self.move)
        self.back.migrate("--postcopy", "--precopy-passes", "0")
        self.swept(self.back)
        self.back.wait_ended("receive")
        clean(self.lab, "b", self.name, 0, "back at a")
        self.with_guest = memory(self.lab, "a")

    def kept(self, when):
        """a keeps its half: suspended, under the name that says so, not given back without being forced."""
        words = self.lab.sh("a", f"xl list {self.name}--postcopy-source | tail -n 1").split()
        check("s" in words[4] and int(words[2]) == MEMORY, f"{when}: a keeps it suspended, with its memory: {words}")
        code, out, err = self.lab.status("a", f"xl postcopy-resume {self.name}--postcopy-source")
        check(code != 0 and "may be running at the destination" in out + err,
              f"{when}: xl postcopy-resume without -f refuses")

    def taken_back(self, when, patience=20):
        """b has nothing of it, and a gets it back when its user says so: all its memory is there."""
        check(not running(self.lab, self.name), f"{when}: it runs nowhere")
        clean(self.lab, "b", self.name, 0, when, patience)
        self.lab.sh("a", f"xl postcopy-resume -f {self.name}--postcopy-source")
        self.unharmed(f"{when}: taken back by xl postcopy-resume -f")
        self.swept(self.back)


# -- xl is killed


def killed_before_go(m, moment, host):
    where, at = BEFORE_GO[moment]
    m.hold(where, at)
    m.kill(host)
    if where == host and moment in ("channels-open", "marked-early", "stream-sent", "active", "ready"):
        # the pager knows; the hook script that xl had running comes too late
        m.move.wait_ended(ROLE[host])
    m.hosts.release(where, at)
    ended_badly(m)
    # serve gives a guest that may have been asked to suspend a minute to do so
    early = ("channels-open", "early-marking", "marked-early")
    m.unharmed(f"xl on {host} killed, {moment}", 90 if moment in early else 20)


def ended_badly(m):
    code = m.move.finish(180)
    check(code != 0, f"xl migrate: exit status {code}")


def not_sent(m, host):
    """xl on a was killed in time. With xl on b dead the stream may still go to its helper there, or into the
    transport's buffers."""
    if host == "a":
        check("stream sent" not in m.move.xl.text(), "the stream was not sent")


def killed_suspending(m, host):
    """The guest does not answer: it is paused."""
    m.lab.sh("a", f"xl pause {m.name}")
    m.go()
    m.phase("src", "suspending")
    m.kill(host)
    m.lab.sh("a", f"xl unpause {m.name}")
    ended_badly(m)
    not_sent(m, host)
    m.unharmed(f"xl on {host} killed, suspending", 90)


def killed_suspended(m, host):
    """The stream does not get out of xl's pipe: what carries it has been stopped, while the guest did not answer."""
    m.lab.sh("a", f"xl pause {m.name}")
    m.go()
    m.phase("src", "suspending")
    # the older of two: the other is the second channel's
    carrier = m.lab.pid("a", "[s]ocat -u .*STDIN FD:3")
    m.lab.sh("a", f"kill -STOP {carrier} && xl unpause {m.name}")
    m.phase("src", "suspended")
    m.kill(host)
    m.lab.sh("a", f"kill -CONT {carrier}")
    ended_badly(m)
    not_sent(m, host)
    m.unharmed(f"xl on {host} killed, suspended")


def killed_b_before_go_is_sent(m):
    """serve has committed: GO cannot be sent to a transport that has gone."""
    m.hold("a", "commit-after")
    m.kill("b")
    m.transport_gone()
    m.hosts.release("a", "commit-after")
    m.move.failed("GO cannot be sent")
    m.unharmed("xl on b killed between serve's commit and GO")


def killed_a_before_go_is_sent(m):
    """serve has committed, and nobody sends GO: b destroys its copy, serve is told, and takes the guest back."""
    m.hold("a", "commit-after")
    m.kill("a")
    m.move.finish()
    m.hosts.release("a", "commit-after")
    m.unharmed("xl on a killed between serve's commit and GO")


def killed_a_go_sent(m):
    m.hold("b", "commit-before")
    m.phase("src", "GO sent")
    m.kill("a")
    m.move.finish()
    check(not running(m.lab, m.name), "until b follows GO it runs nowhere")
    m.hosts.release("b", "commit-before")
    m.moved("xl on a killed, GO sent")


def killed_b_go_received(m):
    """receive destroys the copy and says so to serve, which tells xl."""
    m.hold("b", "commit-before")
    m.kill("b")
    m.hosts.release("b", "commit-before", "die")
    m.move.failed("b has destroyed its copy without having started it")
    m.unharmed("xl on b killed, GO received")


def killed_a_committed_there(m):
    m.hold("b", "commit-after")
    m.kill("a")
    m.move.finish()
    m.hosts.release("b", "commit-after")
    m.moved("xl on a killed, committed at b")


def killed_b_committed_there(m):
    """xl cannot unpause it any more: receive does."""
    m.hold("b", "commit-after")
    m.kill("b")
    m.hosts.release("b", "commit-after", "die")
    m.move.failed("complete, without a report")
    m.moved("xl on b killed, committed at b")


def killed_a_watching(m):
    m.hold("a", "wait-completed-before")
    m.kill("a")
    m.move.finish()
    m.hosts.release("a", "wait-completed-before", "die")
    m.moved("xl on a killed, watching")


# -- the hook script dies


def hook_dies(m, host, where):
    m.hold(host, where)
    m.hosts.release(host, where, "die")
    # libxl's words, then xl's
    libxl = host == "b" and where.split("-")[0] in ("receive", "wait", "activate")
    m.move.failed("died due to fatal signal" if libxl else "died from signal 9")
    m.unharmed(f"the hook script on {host} dies at {where}")


def hook_dies_committed_there(m):
    """xl does not know whether receive has taken over; receive does, and sees to the rest when xl has gone."""
    m.hold("b", "commit-after")
    m.hosts.release("b", "commit-after", "die")
    m.move.failed("complete, without a report")
    check("It is not known whether the pager took over" in m.move.answer_text(), "b: xl says what it does not know")
    m.moved("the hook script on b dies at commit-after")


def hook_dies_watching(m):
    m.hold("a", "wait-completed-before")
    m.hosts.release("a", "wait-completed-before", "die")
    m.move.failed("its memory is not there yet")
    m.moved("the hook script on a dies at wait-completed-before")


# -- xl is interrupted


def interrupted(m, host, where):
    m.hold(host, where)
    m.interrupt()
    if where != "wait-listen-before":  # this one is ended along with xl
        m.hosts.release(host, where)
    m.move.failed("postcopy: interrupted")
    m.unharmed(f"SIGINT, the hook script on {host} at {where}")


# -- the link goes


def cut_noticed_before_go(m):
    m.hold("a", "commit-before")
    with m.cut():
        m.transport_gone()
        m.hosts.release("a", "commit-before")
        m.move.failed("Migration failed, the guest was resumed here")
        m.unharmed("link cut after READY", 60)


def cut_right_before_go(m):
    """GO is written, and does not arrive."""
    m.hold("a", "commit-after")
    with m.cut():
        m.hosts.release("a", "commit-after")
        m.phase("src", "GO sent")
        m.move.failed("It is not known whether")
        m.kept("link cut right before GO")
    check("GO received" not in m.move.answer_text(), "GO did not arrive")
    # b waits for it until it notices that the connection has gone, or two minutes
    m.taken_back("link cut right before GO", 150)


def cut_right_after_go(m):
    """GO has arrived: the guest runs at b, and waits for pages; its user has to choose which half to keep."""
    m.hold("b", "commit-before")
    m.phase("src", "GO sent")
    with m.cut():
        m.hosts.release("b", "commit-before")
        m.phase("dst", "running")
        m.move.failed("It is not known whether")
        paused = m.move.wait_state("paused", 120)
        check(paused["pages"]["outstanding"] > 0, f"b: {paused['pages']['outstanding']} pages outstanding, "
              f"{paused['reason']}")
        check(running(m.lab, m.name) == ["b"], "it runs at b only")
        m.kept("link cut right after GO")
        no_corruption(m.lab, "b", m.name)
    m.lab.sh("b", f"xl destroy {m.name}")
    clean(m.lab, "b", m.name, 0, "destroyed at b")
    m.lab.sh("a", f"xl destroy {m.name}--postcopy-source")
    clean(m.lab, "a", m.name, 0, "destroyed at a")
    m.memory_back("link cut right after GO", m.empty["a"])
    m.fresh()


def cases():
    """All of them, {name: function of Moments}."""
    found = {}
    for host in ("a", "b"):
        for moment in BEFORE_GO:
            found[f"killed-{host}-{moment}"] = lambda m, x=moment, h=host: killed_before_go(m, x, h)
        found[f"killed-{host}-suspending"] = lambda m, h=host: killed_suspending(m, h)
        found[f"killed-{host}-suspended"] = lambda m, h=host: killed_suspended(m, h)
    for function in (killed_a_before_go_is_sent, killed_b_before_go_is_sent, killed_a_go_sent, killed_b_go_received,
                     killed_a_committed_there, killed_b_committed_there, killed_a_watching):
        found[function.__name__.replace("_", "-")] = function
    for host, where in (("b", "prepare-before"), ("b", "prepare-after"), ("a", "serve-before"), ("a", "serve-after"),
                        ("a", "wait-listen-before"), ("a", "wait-listen-after"), ("b", "receive-before"),
                        ("b", "receive-after"), ("b", "wait-listen-before"), ("b", "wait-listen-after"),
                        ("b", "activate-before"), ("b", "activate-after"),
                        ("a", "commit-before"), ("a", "commit-after"), ("b", "commit-before")):
        found[f"hook-dies-{host}-{where}"] = lambda m, h=host, w=where: hook_dies(m, h, w)
    found["hook-dies-b-commit-after"] = hook_dies_committed_there
    found["hook-dies-a-wait-completed-before"] = hook_dies_watching
    for host, where in (("a", "wait-listen-before"), ("b", "receive-before"), ("b", "wait-listen-before"),
                        ("b", "activate-before"), ("a", "commit-after")):
        found[f"interrupted-{host}-{where}"] = lambda m, h=host, w=where: interrupted(m, h, w)
    for function in (cut_noticed_before_go, cut_right_before_go, cut_right_after_go):
        found[function.__name__.replace("_", "-")] = function
    return found
