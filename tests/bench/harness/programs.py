"""What runs in the guests: the payload of tests/bench/workloads, and a hash of every program a figure depends on."""

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path[:0] = [os.path.join(TOP, "tests/lab"), os.path.join(TOP, "tests/cases"), os.path.join(TOP, "tests/bench")]

import images  # noqa: E402
import kernel as kernels  # noqa: E402

WORKLOADS = os.path.join(TOP, "tests/bench/workloads")
WITNESS = os.path.join(TOP, "build/witness/memwitness")
MEMTESTER = os.path.join(TOP, "build/unpacked/memtester/usr/sbin/memtester")
PAGER = os.path.join(TOP, "build/pager/xenpaging-pc")
# Debian's libxenforeignmemory, for modes that ask for it
LIBRARY = os.path.join(TOP, "build/unpacked/libxenforeignmemory1/usr/lib/x86_64-linux-gnu/libxenforeignmemory.so.1")
MODULES = ("loop", "squashfs", "brd")
# what a move runs besides the pager, and the scripts of its job
ENVIRONMENT = ("pager/hooks/postcopy", "tests/cases/transport/via", "tests/cases/transport/answer", "tests/lab/exact-loop",
               "tests/lab/dom0-init", "tests/lab/guest-init")


def _tools(path):
    """fio and memtester with their libraries, as a squashfs."""
    with tempfile.TemporaryDirectory() as folder:
        for program in (shutil.which("fio"), MEMTESTER):
            shutil.copy(program, folder)
        with open(os.path.join(folder, "run"), "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n")
        os.chmod(os.path.join(folder, "run"), 0o755)
        with open(path, "wb") as f:
            f.write(images.payload_disk(folder))


def payload(folder, matrix):
    """A guest's payload, in that folder, which is made."""
    shutil.copytree(WORKLOADS, folder)
    shutil.copy(WITNESS, folder)
    subprocess.run(["strip", os.path.join(folder, "memwitness")], check=True)
    modules = kernels.module_files(kernels.get(), MODULES)
    os.mkdir(os.path.join(folder, "modules"))
    for path in modules:
        shutil.copy(path, os.path.join(folder, "modules"))
    names = [os.path.basename(path) for path in modules]
    # one ramdisk of an eighth of memory
    ramdisk = f"brd.ko rd_nr=1 rd_size={matrix['memory'] * 128}"
    with open(os.path.join(folder, "modules/order"), "w", encoding="ascii") as f:
        f.writelines(f"{ramdisk if name == 'brd.ko' else name}\n" for name in names)
    with open(os.path.join(folder, "settings"), "w", encoding="ascii") as f:
        f.writelines(f"{key}={matrix[key]}\n" for key in ("memory", "tick_ms", "rate", "quota"))
    _tools(os.path.join(folder, "tools.squashfs"))


def _hash(paths):
    found = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as f:
            found.update(os.path.relpath(path, TOP).encode() + b"\0" + f.read())
    return found.hexdigest()[:16]


def hashes():
    """{what: hash of it}: what every cell depends on, besides the matrix and the versions."""
    workloads = [os.path.join(WORKLOADS, name) for name in os.listdir(WORKLOADS)]
    qemu = subprocess.run([os.path.join(TOP, "tests/smp/build-qemu")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"pager": _hash([PAGER]), "witness": _hash([WITNESS]),
            "workloads": _hash([*workloads, shutil.which("fio"), MEMTESTER]),
            "qemu": _hash([qemu]), "debian's library": _hash([LIBRARY] if os.path.exists(LIBRARY) else []),
            "payload": hashlib.sha256(inspect.getsource(payload).encode()).hexdigest()[:16],
            "environment": _hash(os.path.join(TOP, name) for name in ENVIRONMENT), "kernel": kernels.get().package}
