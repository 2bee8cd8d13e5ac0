"""The hosts of the lab that is up: finding them, ending them."""

import contextlib
import json
import os

import agentclient
import kept
import paths
from paths import LabError


class Host:
    """A host that is up, as lab.json describes it."""

    def __init__(self, name, entry):
        self.name = name
        self.folder = entry["folder"]
        self.port = entry["port"]
        self.address = entry["address"]
        self.inputs = entry["inputs"]
        self.serial = os.path.join(self.folder, "serial.log")

    def alive(self):
        return kept.pid_of(self.folder) is not None

    def output(self, *argv, stdin=None, timeout=60):
        return agentclient.output(self.port, argv, stdin, timeout)


def state_file():
    """lab.json of the run dir; there once `up` is done."""
    return os.path.join(paths.run_dir(), "lab.json")


def state():
    """Contents of lab.json, or None if no lab is up here."""
    try:
        return json.loads(paths.read_text(state_file()))
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


def folders():
    """Host folders in the run dir, whether or not lab.json was written."""
    run = paths.run_dir()
    with contextlib.suppress(FileNotFoundError):
        return [e.path for e in os.scandir(run) if os.path.exists(os.path.join(e.path, "keeper.pid"))]
    return []


def down():
    """Ends all hosts of this lab; returns how many still ran. Logs stay until the next `lab up`."""
    running = [f for f in folders() if kept.pid_of(f) is not None]
    for folder in running:
        kept.end(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state_file())
    return len(running)
