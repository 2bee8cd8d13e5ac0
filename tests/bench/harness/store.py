"""Result files: one JSON object a line. {"cell": ...} is a measured cell, or with "failed" one that went wrong, {"meta": ...}
what a run of `bench run` was."""

import hashlib
import json
import os


def digest(value):
    """Short hash of anything JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def append(path, value):
    """A whole line or nothing, on disk when it returns: a run may be interrupted at any time."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    line = (json.dumps(value) + "\n").encode()
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # what an interrupted run has left stays a line of its own
        while line:
            line = line[os.write(fd, line):]
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path):
    """({cell's name: its last result}, metas). A cell that failed since has none, nor is an unfinished line one."""
    cells, metas = {}, []
    if not os.path.exists(path):
        return cells, metas
    with open(path, encoding="utf-8") as f:
        for line in f:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if "failed" in value:
                cells.pop(value["cell"], None)
            elif "cell" in value:
                cells[value["cell"]] = value
            elif "meta" in value:
                metas.append(value["meta"])
    return cells, metas
