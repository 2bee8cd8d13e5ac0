"""Two network namespaces with a link between: the bench's own, where pages are sent from, and one for who receives them.

What goes to the receiver crosses a veth pair that tc's tbf holds to a rate; what comes back crosses another way when the
link has a delay (native-delay, which says why): a kernel with netem is not needed. A packet on the way to the receiver is
up to PACKET bytes long, so that several segments share the cost of one; less than that tbf lets through at once.
"""

import json
import subprocess

from .processes import Programs

SENDER, RECEIVER = "10.119.0.1", "10.119.0.2"
PACKET = 16384
# of Ethernet's rate, what is left for IP: frames of 1538 bytes on the wire carry 1500
IP_SHARE = 1500 / 1538
CALIBRATE_US = 100


class Link:
    """mbit 0: as fast as veth is; rtt_us 0: no delay is added."""

    def __init__(self, name, mbit=0, rtt_us=0):
        self.name = name
        self.mbit = mbit
        self.rtt_us = rtt_us
        self.programs = Programs()
        self.there = []  # prefix of commands that run at the receiver's
        self.delay = None
        self.measured_rtt_us = None

    def __enter__(self):
        try:
            self._up()
        except BaseException:
            self.programs.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.programs.__exit__()
        if self.there:
            subprocess.run(["ip", "link", "del", "wire"], check=False, stderr=subprocess.DEVNULL)
            self.there = []

    def _up(self):
        holder = self.programs.start("namespace", ["unshare", "--net", "sh", "-c", "echo there; exec sleep infinity"])
        holder.line()
        namespace = f"/proc/{holder.pid}/ns/net"
        self.there = ["nsenter", f"--net={namespace}"]
        run(["ip", "link", "set", "lo", "up"])
        run(["ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(holder.pid)])
        for prefix, address in (([], SENDER), (self.there, RECEIVER)):
            packet = ["gso_max_size", str(PACKET)] if self.mbit else []
            run([*prefix, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"])
            run([*prefix, "ip", "link", "set", "wire", "mtu", "1500", *packet])
            run([*prefix, "ip", "address", "add", address + "/24", "dev", "wire"])
            run([*prefix, "ip", "link", "set", "wire", "up"])
        if self.mbit:
            rate = f"{int(self.mbit * IP_SHARE * 1000)}kbit"
            run(["tc", "qdisc", "replace", "dev", "wire", "root", "tbf", "rate", rate, "burst", str(2 * PACKET + 4096),
                 "latency", "20ms"])
        if self.rtt_us:
            self._hold(namespace)
        self.measured_rtt_us = self._rtt()

    def _hold(self, namespace):
        self.delay = self.programs.start("native-delay", ["native-delay", "--from", namespace, "--to", "/proc/self/ns/net",
                                                          "--name", "back"])
        self.delay.line()
        for prefix in ([], self.there):
            run([*prefix, "ip", "link", "set", "back", "up"])
        run([*self.there, "ip", "route", "add", SENDER, "dev", "back", "src", RECEIVER])
        # What wake-ups cost here belongs to the round trip time that is wanted.
        self.delay.tell(str(CALIBRATE_US))
        self.delay.tell(str(max(0, round(CALIBRATE_US + self.rtt_us - self._rtt()))))

    def _rtt(self):
        return floor(self, ms=500, probe=True)["round_trip_us"]["p50"]

    def sent(self):
        """Bytes that either end has sent so far."""
        def bytes_of(prefix, device):
            text = subprocess.run([*prefix, "ip", "-json", "-stats", "link", "show", "dev", device], check=True,
                                  stdout=subprocess.PIPE).stdout
            return json.loads(text)[0]["stats64"]["tx"]["bytes"]
        return bytes_of([], "wire"), bytes_of(self.there, "back" if self.delay else "wire")


def run(command):
    subprocess.run(command, check=True)


def floor(link, vcpus=1, ms=2000, bulk=False, pace=0, probe=False):
    """Ping-pong of pages on that link; see pingpong.c. pace: of bulk, bytes a second."""
    with Programs() as programs:
        answer = programs.start("native-pingpong answer", ["native-pingpong", "answer", "--listen", SENDER + ":0"])
        where = answer.line()
        ask = programs.start("native-pingpong ask",
                             ["native-pingpong", "ask", "--connect", where, "--vcpus", str(vcpus), "--ms", str(ms),
                              *(["--bulk"] if bulk else []), *(["--pace", str(int(pace))] if pace else []),
                              *(["--probe"] if probe else [])], link.there)
        found = ask.json()
        ask.succeed()
        return found


def iperf(link, seconds=4):
    """Goodput of one stream towards the receiver, bytes a second."""
    with Programs() as programs:
        server = programs.start("iperf3 -s", ["iperf3", "--server", "--one-off", "--bind", SENDER, "--forceflush"])
        # It says so in a box of three lines.
        while not server.line().startswith("Server listening"):
            pass
        client = subprocess.run([*link.there, "iperf3", "--client", SENDER, "--reverse", "--time", str(seconds), "--json"],
                                check=True, stdout=subprocess.PIPE)
        return json.loads(client.stdout)["end"]["sum_received"]["bits_per_second"] / 8
