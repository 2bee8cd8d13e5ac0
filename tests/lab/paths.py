"""Where things are, and the one exception that ends a verb with a message."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.realpath(os.path.join(HERE, "..", ".."))
BUILD = os.path.join(TOP, "build")
CACHE = os.path.join(BUILD, "lab")
XEN_OUT = os.path.join(BUILD, "xen", "out")
XEN_BUILD = os.path.join(TOP, "tests", "xen", "xen-build")
UNPACKED = os.path.join(BUILD, "unpacked")
DOM0_EXTRA = os.path.join(BUILD, "dom0-extra")


class LabError(Exception):
    """A verb failed; the text is what the user reads."""


def run_dir():
    """State of the lab that is up: $LAB_DIR, else build/lab/run."""
    return os.path.abspath(os.environ.get("LAB_DIR") or os.path.join(CACHE, "run"))


def cache(*parts):
    """A path in the cache; its folder exists afterwards."""
    path = os.path.join(CACHE, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def write_atomic(path, data, mode=0o644):
    """Readers see the old file or the new one, never half of it."""
    if isinstance(data, str):
        data = data.encode()
    tmp = f"{path}.tmp{os.getpid()}"
    with open(tmp, "wb") as f:
        f.write(data)
    os.chmod(tmp, mode)
    os.rename(tmp, path)
