"""The programs of the bench, started and waited for. All of them end with the bench: it runs in a PID namespace of its own."""

import json
import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BIN = os.environ.get("NATIVE_BIN", os.path.join(TOP, "build/native/bin"))


class Failed(Exception):
    """A program, or what it found, is not as it has to be."""


class Program:
    """One process; its stdin and stdout are pipes, line by line."""

    def __init__(self, name, command, prefix=(), environment=None):
        self.name = name
        if os.sep not in command[0] and os.path.exists(os.path.join(BIN, command[0])):
            command = [os.path.join(BIN, command[0]), *command[1:]]
        self.process = subprocess.Popen([*prefix, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | (environment or {}))
        self.pid = self.process.pid

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise Failed(f"{self.name} ended, with status {self.process.wait()}, before it said what it had to")
        return text.strip()

    def json(self):
        return json.loads(self.line())

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        """The end of its stdin."""
        self.process.stdin.close()

    def succeed(self):
        status = self.process.wait()
        if status:
            raise Failed(f"{self.name}: exit status {status}")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass


class Programs:
    """Several, that end with the block."""

    def __init__(self):
        self.running = []

    def __enter__(self):
        return self

    def start(self, name, command, prefix=(), environment=None):
        self.running.append(Program(name, command, prefix, environment))
        return self.running[-1]

    def __exit__(self, *_):
        for program in reversed(self.running):
            program.end()


def descendants(pid):
    """A process and all that it started."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                for child in f.read().split():
                    found += descendants(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found
