"""`lab put` and `lab get`: files and folders into and out of dom0, modes kept."""

import io
import os
import stat
import tarfile
import tempfile

import agentclient
from paths import LabError

PUT_FILE = """
set -e
target=$1; mode=$2; name=$3
case $target in */) mkdir -p "$target" ;; esac
if [ -d "$target" ]; then target=$target/$name; fi
mkdir -p "$(dirname "$target")"
cat >"$target.put$$"
chmod "$mode" "$target.put$$"
mv -f "$target.put$$" "$target"
"""

PUT_IMAGE = """
set -e
mkdir -p /lab/images
cat >"/lab/images/$1.tmp"
if [ "$2" != 0 ]; then truncate -s "$2M" "/lab/images/$1.tmp"; fi
mv "/lab/images/$1.tmp" "/lab/images/$1"
"""

PUT_FOLDER = 'set -e; mkdir -p "$1"; exec tar -x -C "$1"'

GET = """
set -e
[ -e "$1" ] || { echo "no such file or folder: $1" >&2; exit 1; }
if [ -d "$1" ]; then echo folder; exec tar -c -C "$1" .; fi
stat -L -c %a "$1"
exec cat "$1"
"""


def put(host, local, remote):
    """A file becomes `remote` (or lands in it, if that is a folder or ends in /); a folder's contents are
    merged into the folder `remote`."""
    if os.path.isdir(local):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(os.listdir(local)):
                tar.add(os.path.join(local, name), arcname=name, filter=_as_root)
        host.output("sh", "-c", PUT_FOLDER, "sh", remote, stdin=data.getvalue() or None, timeout=600)
        return
    try:
        with open(local, "rb") as f:
            data = f.read()
            mode = stat.S_IMODE(os.fstat(f.fileno()).st_mode)
    except OSError as e:
        raise LabError(f"{local}: {e.strerror}") from e
    host.output("sh", "-c", PUT_FILE, "sh", remote, f"{mode:o}", os.path.basename(local), stdin=data,
                timeout=600)


def put_image(host, name, data, mib=0):
    """Path in dom0 of a file whose name tells its contents, put there unless it is there. mib: made that large."""
    path = f"/lab/images/{name}"
    if agentclient.run(host.port, ["test", "-e", path], None, None, None, 60):
        host.output("sh", "-c", PUT_IMAGE, "sh", name, str(mib), stdin=data, timeout=300)
    return path


def _as_root(info):
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def get(host, remote, local):
    """A file becomes `local` (or lands in it, if that is a folder); a folder's contents go into it."""
    with tempfile.TemporaryFile() as out:
        err = bytearray()
        status = agentclient.run(host.port, ["sh", "-c", GET, "sh", remote], None, out.fileno(), err, 600)
        if status:
            raise LabError(f"get {host.name}:{remote}: {err.decode(errors='replace').strip() or status}")
        out.seek(0)
        kind = out.readline().decode().strip()
        if kind == "folder":
            os.makedirs(local, exist_ok=True)
            with tarfile.open(fileobj=out, mode="r|") as tar:
                tar.extractall(local)
            return
        if os.path.isdir(local):
            local = os.path.join(local, os.path.basename(remote))
        try:
            with open(local, "wb") as f:
                while data := out.read(1 << 20):
                    f.write(data)
            os.chmod(local, int(kind, 8))
        except OSError as e:
            raise LabError(f"{local}: {e.strerror}") from e
