"""Starts one QEMU under its keeper (keeper.c)."""

import os
import subprocess

import images
import paths
from qmp import Qmp, listen_unix


class Process:
    """A started QEMU in its folder: serial.log, qemu.log, qmp.sock, keeper.pid, qemu.pid. Until keep() is
    called it dies with this process."""

    def __init__(self, folder, args, pass_fds=(), owner=None):
        self.folder = folder
        self.serial = os.path.join(folder, "serial.log")
        keeper = images.compile_c("keeper.c", "lab-keeper", [])
        control = listen_unix(os.path.join(folder, "qmp.sock"))
        command = [keeper, "--log", self.serial]
        if owner:
            command += ["--owner", str(owner)]
        command += ["--", *args, "-chardev", f"socket,id=qmp,fd={control.fileno()},server=on,wait=off",
                    "-mon", "chardev=qmp,mode=control"]
        with open(os.path.join(folder, "qemu.log"), "ab") as log:
            self.popen = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log,
                                          pass_fds=(*pass_fds, control.fileno()), start_new_session=True)
        control.close()
        self.pidfd = os.pidfd_open(self.popen.pid)
        paths.write_atomic(os.path.join(folder, "keeper.pid"), f"{self.popen.pid}\n")

    def qmp(self, timeout=60):
        return Qmp(os.path.join(self.folder, "qmp.sock"), timeout)

    def keep(self):
        self.popen.stdin.write(b"K")
        self.popen.stdin.close()

    def end(self):
        self.popen.terminate()
        self.popen.wait()

    def log_tail(self):
        text = paths.read_text(os.path.join(self.folder, "qemu.log"))
        if os.path.exists(self.serial):
            text += "".join(paths.read_text(self.serial).splitlines(keepends=True)[-15:])
        return text.strip()
