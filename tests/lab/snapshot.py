"""Snapshots of booted hosts, made once and named by the hash of everything that goes into them."""

import contextlib
import fcntl
import glob
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time

import evidence
import hashing
import images
import kernel as kernels
import machine
import paths
from filewait import wait_line
from keeper import Process
from paths import LabError

BOOT_SECONDS = 240
KEEP = 24
CRASHES = ["Panic on CPU", "Hardware Dom0 crashed", "Hardware Dom0 halted", "Hardware Dom0 shutdown"]
OWN_FILES = ["agent.c", "dom0-init", "exact-loop", "images.py", "cpio.py", "elfdeps.py", "kernel.py"]


def _dom0_image(options, kernel):
    """Path of dom0's initramfs, built if one of its inputs changed. It is named by its contents, so that what
    changes only a comment makes no new snapshot."""
    tools = options.tools_root()
    own = [paths.read_bytes(os.path.join(paths.HERE, name)) for name in OWN_FILES]
    here = [_stats_of_program(name) for name in images.HERE_PROGRAMS + ["busybox"]]
    extra = hashing.stats(paths.DOM0_EXTRA) + hashing.stats(paths.UNPACKED)
    key = hashing.short(kernel.package, tools, hashing.stats(tools), extra, *here, *own)
    note = paths.cache("images", f"dom0-{key}.sha256")
    if os.path.exists(note):
        path = paths.cache("images", f"dom0-{paths.read_text(note)}.cpio")
    if not os.path.exists(note) or not os.path.exists(path):
        data = images.dom0(kernel, tools)
        path = paths.cache("images", f"dom0-{hashing.short(data)}.cpio")
        paths.write_atomic(path, data)
        paths.write_atomic(note, hashing.short(data))
    touch(path)
    prune(os.path.join(os.path.dirname(path), "dom0-*.cpio"))
    prune(os.path.join(os.path.dirname(path), "dom0-*.sha256"))
    return path


def _stats_of_program(name):
    path = images.which(name)
    return f"{path} {os.stat(path).st_mtime_ns}" if path else f"{name} absent"


def touch(path):
    """Marks as used just now: the oldest are removed first."""
    os.utime(path)


def prune(pattern):
    """Removes all but the KEEP files used last."""
    for old in sorted(glob.glob(pattern), key=os.path.getmtime)[:-KEEP]:
        with contextlib.suppress(OSError):
            os.unlink(old)


class Parts:
    """The files a host boots from and the key of its snapshot."""

    def __init__(self, options):
        kernel = kernels.get()
        self.options = options
        self.xen = options.xen_image()
        self.vmlinux = kernel.vmlinux
        self.image = _dom0_image(options, kernel)
        what = options._asdict() | {"xen": hashing.full(paths.read_bytes(self.xen)), "tools": "",
                                  "kernel": kernel.package, "image": os.path.basename(self.image),
                                  "qemu": machine.qemu_version(),
                                  "args": machine.common(options, "") + machine.network([])}
        self.inputs = what
        self.key = hashing.short(json.dumps(what, sort_keys=True))
        self.path = paths.cache("snapshots", f"{'exact-' if options.exact else ''}{self.key}.snap")

    def links(self):
        """{name in QEMU's working directory: file}"""
        return {"xen": self.xen, "vmlinux": self.vmlinux, "dom0.cpio": self.image}


def link_parts(folder, links):
    for name, target in links.items():
        os.symlink(target, os.path.join(folder, name))


def save(qmp, path, timeout=120):
    """Writes the stopped machine's state to `path`, whole or not at all."""
    qmp.call("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    qmp.call("migrate-set-parameters", **{"max-bandwidth": 100 << 30})
    tmp = f"{path}.tmp{os.getpid()}"
    try:
        qmp.call("migrate", uri=f"exec:cat >{shlex.quote(tmp)}")
        qmp.wait_migration(timeout)
        os.rename(tmp, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)


def begin_load(qmp, path):
    """Starts loading a state into a machine started with `-S -incoming defer`; wait_migration() tells the
    end, and the machine is left stopped."""
    qmp.call("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    qmp.call("migrate-incoming", uri=f"exec:cat {shlex.quote(path)}")


def boot(options, links, path, ready, timeout, failure="LAB FAILED"):
    """Boots a host until its console prints `ready` and saves it to `path`. `failure` is a regular
    expression: a line that matches it makes the boot a failure."""
    folder = tempfile.mkdtemp(prefix="boot-", dir=paths.CACHE)
    link_parts(folder, links)
    net = [] if options.exact else machine.network(["-netdev", "hubport,id=link,hubid=1"])
    host = Process(folder, machine.common(options, folder) + net)
    try:
        line = wait_line(host.serial, [ready, *CRASHES], timeout, [host.pidfd])
        bad = [text for text in paths.read_text(host.serial).splitlines() if re.search(failure, text)]
        if line is None or ready not in line or bad:
            raise LabError(f"a host did not boot (or not in {timeout} s); logs kept in {folder}\n"
                           + "\n".join(bad or [host.log_tail()]))
        with host.qmp() as qmp:
            qmp.call("stop")
            save(qmp, path)
        # a restored host never prints the hypervisor's banner: keep the one of the boot
        shutil.copyfile(host.serial, path + ".boot.log")
    except LabError:
        evidence.from_qemu(folder, folder)
        host.end()
        raise
    except BaseException:
        _drop(host, folder)
        raise
    _drop(host, folder)


def _drop(host, folder):
    host.end()
    shutil.rmtree(folder)


def ensure(options):
    """The parts of hosts with these options, with their snapshot made. Several labs may ask at once."""
    parts = Parts(options)
    with open(parts.path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(parts.path):
            start = time.monotonic()
            print("lab: no snapshot of such a host yet: booting one", file=sys.stderr)
            ready = "LAB PREPARE ENDS" if options.exact else "LAB READY"
            boot(options, parts.links(), parts.path, ready, BOOT_SECONDS)
            inputs = json.dumps(parts.inputs, indent=1, sort_keys=True)
            paths.write_atomic(parts.path + ".json", inputs + "\n")
            print(f"lab: snapshot made in {time.monotonic() - start:.1f} s "
                  f"({os.path.getsize(parts.path) >> 20} MiB)", file=sys.stderr)
    touch(parts.path)
    prune(os.path.join(os.path.dirname(parts.path), "*.snap"))
    return parts
