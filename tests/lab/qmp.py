"""QEMU's machine protocol over its unix socket."""

import json
import os
import socket
import time

from paths import LabError


def connect_unix(path, timeout):
    """Connected socket; goes through /proc/self/fd, so that long folders fit into sun_path."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except OSError as e:
        sock.close()
        raise LabError(f"{path}: {e.strerror}") from e
    finally:
        os.close(folder)
    return sock


def listen_unix(path):
    """Listening socket made before QEMU starts: connecting never races with QEMU's start."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)
    sock.listen(4)
    return sock


class Qmp:
    """One connection. Every method raises LabError when QEMU refuses, is gone or does not answer in time."""

    def __init__(self, path, timeout=60):
        self.path = path
        self.timeout = timeout
        self.events = []
        self.sock = connect_unix(path, timeout)
        self.file = self.sock.makefile("rb")
        self._read()
        self.call("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def _read(self):
        try:
            line = self.file.readline()
        except OSError as e:
            raise LabError(f"{self.path}: no answer from QEMU ({e})") from e
        if not line:
            raise LabError(f"{self.path}: QEMU ended; see qemu.log beside it")
        return json.loads(line)

    def call(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as e:
            raise LabError(f"{self.path}: {e}") from e
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
            self.events.append(answer)

    def monitor(self, line):
        """A command of the human monitor; returns its text."""
        return self.call("human-monitor-command", **{"command-line": line})

    def wait_event(self, wanted, timeout):
        """The first event for which wanted(event) is true; kept ones are looked at first."""
        deadline = time.monotonic() + timeout
        while True:
            while self.events:
                event = self.events.pop(0)
                if wanted(event):
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"{self.path}: QEMU did not report within {timeout} s")
            self.sock.settimeout(left)
            try:
                answer = self._read()
            finally:
                self.sock.settimeout(self.timeout)
            self.events.append(answer)

    def wait_migration(self, timeout):
        """Until the state has been written or loaded. The capability `events` must be on."""
        def done(event):
            return event.get("event") == "MIGRATION" and event["data"]["status"] in ("completed", "failed")
        if self.wait_event(done, timeout)["data"]["status"] == "failed":
            raise LabError(f"{self.path}: QEMU could not write or load the machine's state; see qemu.log")
