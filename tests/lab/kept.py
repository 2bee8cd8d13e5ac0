"""A host folder's keeper: is it still the one, and ending it."""

import os
import select
import signal

import paths


def pid_of(folder):
    """The keeper's pid if it is still this folder's keeper, else None."""
    try:
        pid = int(paths.read_text(os.path.join(folder, "keeper.pid")))
        command = paths.read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(os.path.join(folder, "serial.log")) in command else None


def end(folder):
    """Ends the host of this folder and waits until both processes are gone."""
    pid = pid_of(folder)
    if pid is None:
        return
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # between the look at its command line and here the pid could have changed hands
        if pid_of(folder) == pid:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            select.select([fd], [], [])
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
