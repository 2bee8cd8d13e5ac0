"""One move of the native guest by the product's serve and receive: a row of figures, all bytes checked."""

import json
import os
import socket
import subprocess
import tempfile
import time

from .link import SENDER
from .machine import Cpu, own_mib
from .processes import Failed, Programs

PAGE = 4096
TOKEN = "6e" * 32  # the network is our own
LOOK_S = 1  # between two looks at the programs' memory


class Session:
    """vcpus touch in the order of `workload`, `rate` times a second in all (0: as fast as it goes), `touches` times (0: each
    page once). With push, pages that nobody waits for come as well."""

    def __init__(self, link, mib, vcpus=1, workload="random", rate=0, touches=0, zero=0, serve=(), receive=()):
        self.link = link
        self.mib = mib
        self.guest_options = ["--mib", str(mib), "--vcpus", str(vcpus), "--workload", workload, "--rate", str(rate),
                              "--touches", str(touches), "--zero", str(zero)]
        self.zero = zero
        self.serve_options = list(serve)
        self.receive_options = list(receive)
        self.rss = {"receiver": 0.0, "sender": 0.0}
        self.folder = self.serve = self.receive = None

    def run(self, during=None):
        """during(session): called when the guest runs."""
        with tempfile.TemporaryDirectory(prefix="native.") as folder, Programs() as programs:
            try:
                return self._run(folder, programs, during)
            except Failed as failed:
                raise Failed(f"{failed}\n{_logs(folder)}") from failed

    def _run(self, folder, programs, during):
        self.folder = folder
        where_guest = os.path.join(folder, "guest.sock")
        guest = programs.start("guest", ["native-guest", "--socket", where_guest, *self.guest_options])
        self.serve = programs.start("serve", self._command("serve", ["--listen", SENDER + ":0", *self.serve_options]),
                                    environment={"NATIVE_SOURCE_MIB": str(self.mib), "NATIVE_SOURCE_ZERO": str(self.zero)})
        where = self.serve.line().split()[-1]  # listening on ADDR:PORT
        guest.line()
        sent, cpu = self.link.sent(), Cpu()
        self.receive = programs.start("receive", self._command("receive", ["--connect", where, *self.receive_options]),
                                      self.link.there, {"NATIVE_GUEST": where_guest})
        if during:
            during(self)
        self._await(self.receive)
        idle = cpu.idle_share()
        wire = [after - before for after, before in zip(self.link.sent(), sent)]
        self.receive.succeed()
        self.serve.succeed()
        ran = guest.json()
        guest.close()
        swept = guest.json()
        guest.succeed()
        return self._row(_stats(folder, "serve"), _stats(folder, "receive"), ran, swept, idle, wire)

    def _command(self, role, options):
        """A side of the product. Its folder has its log and its last figures."""
        folder = os.path.join(self.folder, role)
        token = os.path.join(folder, "token")
        os.mkdir(folder, 0o700)
        with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
            f.write(TOKEN)
        return ["native-pager", role, "--domain", "native", "--token-file", token, "--run-dir", folder, "--log",
                os.path.join(folder, "log"), "--stats-file", os.path.join(folder, "stats.json"), *options]

    def _listen(self):
        """What receive says of itself, line by line; when it is there to be asked."""
        path = os.path.join(self.folder, "receive", "receive-8.sock")
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
                return connection.makefile()
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                if self.receive.process.poll() is not None:
                    raise Failed("receive ended before it could be asked") from None
                time.sleep(0.01)

    def status(self):
        with self._listen() as lines:
            return json.loads(lines.readline())

    def await_active(self):
        with self._listen() as lines:
            while "active" not in json.loads(lines.readline() or "{}").get("seen", ["active"]):
                pass

    def _await(self, program):
        """Its end. Meanwhile, memory is looked at."""
        while True:
            try:
                program.process.wait(LOOK_S)
                return
            except subprocess.TimeoutExpired:
                self.rss["receiver"] = max(self.rss["receiver"], own_mib(self.receive.pid))
                self.rss["sender"] = max(self.rss["sender"], own_mib(self.serve.pid))

    def _row(self, serve, receive, ran, swept, idle, wire):
        pages = self.mib << 20 >> 12
        _right(pages, serve, receive, ran, swept)
        seconds = receive["entered_s"]["drain"] - receive["entered_s"]["active"]
        asked = receive["link"]["asked"] - receive["link"]["asked_with_others"]
        return {
            "workload": ran["workload"], "vcpus": ran["vcpus"], "mib": self.mib,
            "touch_us": ran["faulted_us"], "touched": ran["first_touch_us"]["count"], "guest_s": ran["elapsed_s"],
            "pager_us": receive["faults"]["latency_us"], "push_s": seconds, "bytes_per_s": pages * PAGE / seconds,
            "asked": asked, "netfault": asked / ran["first_touch_us"]["count"], "idle_share": idle,
            "bytes_ratio": serve["link"]["bytes"] / (pages * PAGE), "wire_ratio": sum(wire) / (pages * PAGE),
            "duplicates": receive["link"]["duplicates"] + serve["pages"]["resent"], "rss_mib": self.rss,
            "cpu_s": {"serve": serve["cpu_s"], "receive": receive["cpu_s"]},
            "pagers_died": receive["processes"]["pagers_died"],
        }


def _right(pages, serve, receive, ran, swept):
    """No byte wrong, no page missing, none twice."""
    wrong = {
        "wrong bytes that a vcpu saw": ran["wrong_bytes"],
        "wrong bytes in the end": swept["wrong_bytes"],
        "pages absent in the end": swept["absent"],
        "pages that serve did not send": pages - serve["pages"]["sent"],
        "pages sent again by serve": serve["pages"]["resent"],
    }
    # A pager that takes over finds pages in the pool that its predecessor had installed already, and counts them so.
    if not receive["processes"]["pagers_died"]:
        wrong |= {"pages that receive did not install": pages - receive["pages"]["installed"],
                  "duplicates at receive": receive["link"]["duplicates"]}
    found = [f"{name}: {n}" for name, n in wrong.items() if n]
    if found:
        raise Failed("; ".join(found))


def _stats(folder, role):
    with open(os.path.join(folder, role, "stats.json"), encoding="utf-8") as f:
        return json.load(f)


def _logs(folder):
    text = ""
    for role in ("serve", "receive"):
        path = os.path.join(folder, role, "log")
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                text += f"-- {role}\n" + "".join(f.readlines()[-20:])
    return text
