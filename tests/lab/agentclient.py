"""Runs commands in dom0 through the agent (agent.c documents the protocol)."""

import os
import socket
import struct
import sys
import threading
import time

from paths import LabError

CHUNK = 65536
TIMED_OUT = 124


class Gone(LabError):
    """The connection to the agent broke before the command's exit status came."""


class Command:
    """One command in dom0: start it, feed it, read its frames."""

    def __init__(self, port, argv, connect_timeout=30):
        self.group = None
        self.sock = socket.create_connection(("127.0.0.1", port), connect_timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        text = b"".join(os.fsencode(a) + b"\0" for a in argv)
        self.sock.sendall(b"LAB1" + struct.pack(">I", len(text)) + text)

    def feed(self, data):
        for at in range(0, len(data), CHUNK):
            part = data[at:at + CHUNK]
            self.sock.sendall(b"I" + struct.pack(">I", len(part)) + part)

    def end_stdin(self):
        self.sock.sendall(b"C" + struct.pack(">I", 0))

    def frame(self, deadline):
        """(type, payload); None when `deadline` passes; Gone when the connection ends."""
        while len(self.buffer) < 5 or len(self.buffer) < 5 + struct.unpack_from(">I", self.buffer, 1)[0]:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(1 << 18)
            except TimeoutError:
                return None
            except OSError as e:
                raise Gone(f"the connection to dom0's agent broke: {e}") from e
            if not data:
                raise Gone("dom0's agent closed the connection")
            self.buffer += data
        size = struct.unpack_from(">I", self.buffer, 1)[0]
        kind, payload = chr(self.buffer[0]), bytes(self.buffer[5:5 + size])
        del self.buffer[:5 + size]
        if kind == "P":
            self.group = struct.unpack(">I", payload)[0]
        return kind, payload

    def close(self):
        """Ends the command too, if it still runs (the agent sees the connection go)."""
        self.sock.close()


def _feeder(command, source):
    try:
        while data := os.read(source, CHUNK):
            command.feed(data)
        command.end_stdin()
    except OSError:
        pass  # the command ended first


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def run(port, argv, stdin=None, out=1, err=2, timeout=None):
    """Runs argv in dom0. stdin: None (empty), bytes or a file descriptor. out, err: file descriptors or
    bytearrays. Returns the exit status, 124 when `timeout` seconds pass (the command is then ended)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        command = Command(port, argv, 30 if timeout is None else max(timeout, 0.01))
    except TimeoutError:
        return TIMED_OUT
    except OSError as e:
        raise LabError(f"dom0's agent cannot be reached: {e}") from e
    try:
        if isinstance(stdin, int):
            threading.Thread(target=_feeder, args=(command, stdin), daemon=True).start()
        elif stdin:
            threading.Thread(target=_feed_bytes, args=(command, stdin), daemon=True).start()
        else:
            command.end_stdin()
        while True:
            frame = command.frame(deadline)
            if frame is None:
                return TIMED_OUT
            kind, payload = frame
            if kind == "X":
                return struct.unpack(">I", payload)[0]
            sink = {"O": out, "E": err}.get(kind)
            if isinstance(sink, int):
                _write_all(sink, payload)
            elif sink is not None:
                sink += payload
    finally:
        command.close()


def _feed_bytes(command, data):
    try:
        command.feed(data)
        command.end_stdin()
    except OSError:
        pass


def output(port, argv, stdin=None, timeout=60):
    """stdout of argv as text; LabError with its stderr when it fails."""
    out, err = bytearray(), bytearray()
    status = run(port, argv, stdin, out, err, timeout)
    if status:
        what = f"took more than {timeout} s" if status == TIMED_OUT else f"ended with {status}"
        text = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        # of a script its arguments tell more than its text
        words = argv[4:] if tuple(argv[:2]) == ("sh", "-c") else argv
        raise LabError(f"{text or 'no output'} (in dom0, {' '.join(words)[:200]!r} {what})")
    return out.decode(errors="replace")


def stdin_of_caller():
    """This process's stdin as a descriptor, or None if there is none."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        return None
