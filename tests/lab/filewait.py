"""Waiting for a line in a log that another process writes: woken by inotify, no polling."""

import ctypes
import os
import select
import time

_libc = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80
_IN_CLOEXEC = os.O_CLOEXEC


class Watch:
    """Becomes readable (fileno) when something changes in a folder; made before the first look."""

    def __init__(self, folder):
        self.fd = _libc.inotify_init1(_IN_CLOEXEC)
        if self.fd < 0 or _libc.inotify_add_watch(self.fd, os.fsencode(folder),
                                                  _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def wait(self, timeout, *others):
        """The readable fds among the watch and `others`."""
        ready = select.select([self.fd, *others], [], [], timeout)[0]
        if self.fd in ready:
            os.read(self.fd, 65536)
        return ready


def lines(path, timeout, alive_fds=(), offset=0):
    """Yields whole lines of `path` from `offset` as they come. Ends after `timeout` seconds (None: never), or
    when one of `alive_fds` (pidfds of the writers) becomes readable and all has been read."""
    deadline = None if timeout is None else time.monotonic() + timeout
    rest = b""
    ended = False
    with Watch(os.path.dirname(path)) as watch:
        while True:
            if os.path.exists(path):
                with open(path, "rb") as f:
                    f.seek(offset)
                    data = f.read()
                offset += len(data)
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
            if ended:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            ended = any(fd in alive_fds for fd in watch.wait(left, *alive_fds))


def wait_line(path, texts, timeout, alive_fds=(), offset=0):
    """The first line that contains one of `texts`, or None."""
    for line in lines(path, timeout, alive_fds, offset):
        if any(text in line for text in texts):
            return line
    return None
