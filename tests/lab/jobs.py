"""Jobs of exact mode: a folder with an executable `run`, or one file that becomes `run`."""

import gzip
import io
import os
import stat
import tarfile

import paths
from cpio import Archive
from paths import LabError

# dom0's kernel needs about the square of the size in port reads
MAX_PACKED = 64 << 10


def _check(job):
    if os.path.isdir(job):
        if not os.access(os.path.join(job, "run"), os.X_OK):
            raise LabError(f"job {job}: no executable file named run in it")
    elif not os.path.isfile(job):
        raise LabError(f"job {job}: neither a file nor a folder")


def _plain(info):
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = 0
    info.mode = stat.S_IMODE(info.mode)
    return info


def packed(job):
    """The job as a gzipped tar, for fw_cfg. Same contents give the same bytes, as in initramfs()."""
    _check(job)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        if os.path.isdir(job):
            for name in sorted(os.listdir(job)):
                tar.add(os.path.join(job, name), arcname=name, filter=_plain)
        else:
            info = tarfile.TarInfo("run")
            data = paths.read_bytes(job)
            info.mode, info.size = 0o755, len(data)
            tar.addfile(info, io.BytesIO(data))
    data = gzip.compress(out.getvalue(), mtime=0)
    if len(data) > MAX_PACKED:
        raise LabError(f"job {job}: {len(data)} bytes when packed, at most {MAX_PACKED} can be handed to a "
                       "host in exact mode; put programs and images into the job of exact-prepare")
    return data


def initramfs(job):
    """The job as a cpio with everything below lab/prepare, to follow dom0's own in the initramfs."""
    _check(job)
    image = Archive()
    if os.path.isdir(job):
        image.tree(job, "lab/prepare")
    else:
        image.file("lab/prepare/run", paths.read_bytes(job), 0o755)
    return image.pack()
