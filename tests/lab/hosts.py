"""Starting the hosts of a lab."""

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
import kept
import machine
import paths
import running
import snapshot
from paths import LabError

MAX_HOSTS = 8


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
    if any(kept.pid_of(f) is not None for f in running.folders()):
        raise LabError(f"a lab is already up in {run} (lab down, or another LAB_DIR)")
    for folder in running.folders():
        shutil.rmtree(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(running.state_file())
    return run


def up(each):
    """Starts hosts with these options from their snapshots. On any failure or signal nothing is left running."""
    if not 1 <= len(each) <= MAX_HOSTS:
        raise LabError(f"--hosts {len(each)}: 1 to {MAX_HOSTS}")
    run = _prepare_run_dir()
    owner = os.environ.get("LAB_OWNER_PID")
    parts_of = {options: snapshot.ensure(options) for options in dict.fromkeys(each)}
    started = []
    try:
        for name, options, (link, socks) in zip(string.ascii_lowercase, each, _links(len(each))):
            folder = os.path.join(run, name)
            os.makedirs(folder)
            snapshot.link_parts(folder, parts_of[options].links())
            args = machine.common(options, folder) + machine.network(link) + ["-S", "-incoming", "defer"]
            started.append((name, keeper.Process(folder, args, [s.fileno() for s in socks], owner)))
            for sock in socks:
                sock.close()
        entries = {}
        monitors = [process.qmp() for _, process in started]
        # all load side by side, then all run
        for qmp, options in zip(monitors, each):
            snapshot.begin_load(qmp, parts_of[options].path)
        for index, ((name, process), qmp) in enumerate(zip(started, monitors)):
            qmp.wait_migration(120)
            qmp.call("cont")
            port = machine.agent_port(qmp)
            qmp.close()
            parts = parts_of[each[index]]
            entries[name] = {"folder": process.folder, "port": port, "inputs": parts.inputs, "snapshot": parts.path}
        for index, name in enumerate(entries):
            entries[name]["address"] = _identify(entries[name]["port"], index, name)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        paths.write_atomic(running.state_file(), json.dumps({"hosts": entries}, indent=1) + "\n")
        for _, process in started:
            process.keep()
    except BaseException as e:
        for _, process in started:
            process.end()
        if isinstance(e, LabError) and started:
            raise LabError(f"{e}\n{started[0][1].log_tail()}") from e
        raise
    return [running.Host(name, entry) for name, entry in entries.items()]
