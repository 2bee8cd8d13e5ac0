"""Exact mode: one host under QEMU's instruction counter. A job run twice gives the same bytes."""

import json
import os
import re
import shutil
import sys
import tempfile

import evidence
import filewait
import hashing
import jobs
import machine
import paths
import snapshot
from keeper import Process
from paths import LabError

BEGINS, ENDS, PREPARED = "LAB JOB BEGINS", "LAB JOB ENDS", "LAB PREPARE ENDS"
BASE = "base"


class Saved:
    """A snapshot in exact configuration: its state and what its command line is made of."""

    def __init__(self, path, options, links):
        self.path, self.options, self.links = path, options, links

    @staticmethod
    def base(options):
        parts = snapshot.ensure(options)
        return Saved(parts.path, options, parts.links())

    @staticmethod
    def named(name):
        try:
            entry = json.loads(paths.read_text(pointer(name)))
        except FileNotFoundError:
            raise LabError(f"no snapshot {name}: `lab exact-prepare {name} JOB` makes one, "
                           f"{BASE} is always there") from None
        for path in (entry["path"], *entry["links"].values()):
            if not os.path.exists(path):
                raise LabError(f"snapshot {name} is no longer in the cache; prepare it again")
        return Saved(entry["path"], machine.Options(**entry["options"]), entry["links"])


def pointer(name):
    """The file that says what a snapshot's name stands for."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name == BASE:
        raise LabError(f"snapshot name {name!r}: letters, digits, . _ - and not {BASE}")
    return paths.cache("exact", name + ".json")


class _Run:
    """A host restored from `saved` that has been handed a job; it ends with the block."""

    def __init__(self, saved, archive):
        self.saved = saved
        self.folder = tempfile.mkdtemp(prefix="exact-", dir=paths.CACHE)
        snapshot.link_parts(self.folder, saved.links)
        paths.write_atomic(os.path.join(self.folder, "job.tgz"), archive)
        args = machine.common(saved.options, self.folder)
        args += ["-fw_cfg", "name=opt/lab/job,file=job.tgz", "-S", "-incoming", "defer"]
        self.host = Process(self.folder, args, owner=os.environ.get("LAB_OWNER_PID"))

    def __enter__(self):
        try:
            with self.host.qmp() as qmp:
                snapshot.begin_load(qmp, self.saved.path)
                qmp.wait_migration(120)
                qmp.call("cont")
        except BaseException as e:
            self.__exit__(type(e))
            raise
        return self

    def __exit__(self, kind, *_):
        # a failure's message names the folder; what an interrupt leaves is of no use
        failed = kind is not None and issubclass(kind, LabError)
        if failed:
            evidence.from_qemu(self.folder, self.folder)
        self.host.end()
        if not failed:
            shutil.rmtree(self.folder)

    def copy_console(self, out, timeout):
        """The console between BEGINS and ENDS, without the outer stamps; returns the job's status."""
        inside = False
        for stamped in filewait.lines(self.host.serial, timeout, [self.host.pidfd]):
            line = stamped.partition(" ")[2]
            if line.startswith(ENDS):
                return int(line.split()[-1])
            if inside:
                print(line, file=out, flush=True)
            inside = inside or line == BEGINS
            if any(text in line for text in snapshot.CRASHES):
                raise LabError(f"the host crashed; logs kept in {self.folder}\n{self.host.log_tail()}")
        raise LabError(f"no end of the job within {timeout} s, or QEMU ended; logs kept in {self.folder}\n"
                       f"{self.host.log_tail()}")


def run(name, job, options, timeout, out=None):
    """Runs the job from the snapshot; its console goes to `out`. Returns the job's exit status."""
    archive = jobs.packed(job)
    saved = Saved.base(options) if name == BASE else Saved.named(name)
    with _Run(saved, archive) as host:
        return host.copy_console(out or sys.stdout, timeout)


def prepare(name, job, options, timeout):
    """Boots a host that runs the job, and saves it as it is then under `name`; cached by the hash of its
    inputs."""
    target = pointer(name)
    parts = snapshot.Parts(options)
    extra = jobs.initramfs(job)
    key = hashing.short(parts.key, extra)
    image = paths.cache("images", f"exact-{key}.cpio")
    path = paths.cache("snapshots", f"exact-{key}.snap")
    if not os.path.exists(image):
        # the kernel unpacks archive after archive, each on a multiple of four
        own = paths.read_bytes(parts.image)
        paths.write_atomic(image, own + bytes(-len(own) % 4) + extra)
    made = Saved(path, options, parts.links() | {"dom0.cpio": image})
    if not os.path.exists(path):
        snapshot.boot(options, made.links, path, f"{PREPARED} ", timeout, failure=f"{PREPARED} [^0]")
    snapshot.touch(path)
    entry = {"path": path, "options": options._asdict(), "links": made.links}
    paths.write_atomic(target, json.dumps(entry, indent=1) + "\n")
