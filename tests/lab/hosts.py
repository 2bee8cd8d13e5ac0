"""The hosts of one lab: `lab up`, `lab down`, and finding a host that is up."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import string
import time

import agentclient
import keeper
import machine
import paths
import snapshot
from paths import LabError

MAX_HOSTS = 8


class Host:
    """A host that is up, as lab.json describes it."""

    def __init__(self, name, entry):
        self.name = name
        self.folder = entry["folder"]
        self.port = entry["port"]
        self.address = entry["address"]
        self.serial = os.path.join(self.folder, "serial.log")

    def alive(self):
        return keeper.pid_of(self.folder) is not None

    def output(self, *argv, stdin=None, timeout=60):
        return agentclient.output(self.port, argv, stdin, timeout)


def _file():
    return os.path.join(paths.run_dir(), "lab.json")


def state():
    """Contents of lab.json, or None if no lab is up here."""
    try:
        return json.loads(paths.read_text(_file()))
    except FileNotFoundError:
        return None


def get(name):
    """The host called `name`, up and kept, else LabError."""
    lab = state()
    if lab is None:
        raise LabError(f"no lab is up in {paths.run_dir()} (lab up)")
    if name not in lab["hosts"]:
        raise LabError(f"no host {name}; there are {', '.join(lab['hosts'])}")
    host = Host(name, lab["hosts"][name])
    if not host.alive():
        raise LabError(f"host {name} is no longer running; see {host.folder}/qemu.log and serial.log")
    return host


def all_hosts():
    lab = state()
    return [Host(name, entry) for name, entry in lab["hosts"].items()] if lab else []


def _folders():
    """Host folders in the run dir, whether or not lab.json was written."""
    run = paths.run_dir()
    with contextlib.suppress(FileNotFoundError):
        return [e.path for e in os.scandir(run) if os.path.exists(os.path.join(e.path, "keeper.pid"))]
    return []


def down():
    """Ends all hosts of this lab; returns how many still ran. Logs stay until the next `lab up`."""
    running = [f for f in _folders() if keeper.pid_of(f) is not None]
    for folder in running:
        keeper.end(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_file())
    return len(running)


def _links(count):
    """Per host: (-netdev arguments for the link, sockets QEMU inherits). Two hosts share a socket pair; more
    hang on the first one's hub."""
    def stream(name, fd):
        return ["-netdev", f"stream,id={name},server=off,addr.type=fd,addr.str={fd}"]
    if count == 1:
        return [(["-netdev", "hubport,id=link,hubid=1"], [])]
    pairs = [socket.socketpair() for _ in range(count - 1)]
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    out = []
    if count == 2:
        out.append((stream("link", left[0].fileno()), left))
    else:
        args = ["-netdev", "hubport,id=link,hubid=1"]
        for i, sock in enumerate(left):
            args += stream(f"to{i}", sock.fileno())
            args += ["-netdev", f"hubport,id=port{i},hubid=1,netdev=to{i}"]
        out.append((args, left))
    for sock in right:
        out.append((stream("link", sock.fileno()), [sock]))
    return out


IDENTITY = """
set -e
hostname "$1"
ip link set link0 address "$2"
ip addr add "$3/24" dev link0
date -s "@$4" >/dev/null
lab-agent reseed "$5"
"""


def _identify(port, index, name):
    """What hosts restored from one snapshot must not share: name, addresses, clock, random numbers."""
    address = f"10.77.0.{index + 1}"
    agentclient.output(port, ["sh", "-c", IDENTITY, "sh", name, f"52:54:00:77:00:{index + 1:02x}", address,
                              f"{time.time():.0f}", secrets.token_hex(32)])
    return address


def _prepare_run_dir():
    run = paths.run_dir()
    os.makedirs(run, exist_ok=True)
    if any(keeper.pid_of(f) is not None for f in _folders()):
        raise LabError(f"a lab is already up in {run} (lab down, or another LAB_DIR)")
    for folder in _folders():
        shutil.rmtree(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_file())
    return run


def up(options, count):
    """Starts `count` hosts from their snapshot. On any failure or signal nothing is left running."""
    if not 1 <= count <= MAX_HOSTS:
        raise LabError(f"--hosts {count}: 1 to {MAX_HOSTS}")
    run = _prepare_run_dir()
    owner = os.environ.get("LAB_OWNER_PID")
    parts = snapshot.ensure(options)
    started = []
    try:
        for name, (link, socks) in zip(string.ascii_lowercase, _links(count)):
            folder = os.path.join(run, name)
            os.makedirs(folder)
            snapshot.link_parts(folder, parts.links())
            args = machine.common(options, folder) + machine.network(link) + ["-S", "-incoming", "defer"]
            started.append((name, keeper.Process(folder, args, [s.fileno() for s in socks], owner)))
            for sock in socks:
                sock.close()
        entries = {}
        monitors = [process.qmp() for _, process in started]
        # all load side by side, then all run
        for qmp in monitors:
            snapshot.begin_load(qmp, parts.path)
        for index, ((name, process), qmp) in enumerate(zip(started, monitors)):
            qmp.wait_migration(120)
            qmp.call("cont")
            port = machine.agent_port(qmp)
            qmp.close()
            entries[name] = {"folder": process.folder, "port": port}
        for index, name in enumerate(entries):
            entries[name]["address"] = _identify(entries[name]["port"], index, name)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        paths.write_atomic(_file(), json.dumps({"hosts": entries, "inputs": parts.inputs,
                                                "snapshot": parts.path}, indent=1) + "\n")
        for _, process in started:
            process.keep()
    except BaseException as e:
        for _, process in started:
            process.end()
        if isinstance(e, LabError) and started:
            raise LabError(f"{e}\n{started[0][1].log_tail()}") from e
        raise
    return [Host(name, entry) for name, entry in entries.items()]
