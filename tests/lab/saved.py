"""HVM guests that have booted once: saved, kept on this machine, and restored from then on, by a name of their own."""

import fcntl
import os
import subprocess
import sys
import time

import agentclient
import paths
import snapshot
from paths import LabError

SAVE_SECONDS = 600
# dom0's memory never holds such a file
SAVE = """
set -e
fifo=/run/save.$$
mkfifo "$fifo"
trap 'rm -f "$fifo"' EXIT
cat "$fifo" &
if ! xl save "$1" "$fifo" >&2; then
    kill $!
    exit 1
fi
wait $!
"""
RESTORE = 'exec xl restore $2 "$1" /proc/self/fd/0'


def ensure(key, host, boot):
    """Path of the guest saved under that key. If there is none, boot() starts one on the host and returns its name; it
    is gone afterwards. Several labs may ask at once."""
    path = paths.cache("guests", f"{key}.save.zst")
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            start = time.monotonic()
            print("lab: no saved guest of that kind yet: booting one", file=sys.stderr)
            _save(host, boot(), path)
            print(f"lab: saved guest made in {time.monotonic() - start:.1f} s ({os.path.getsize(path) >> 20} MiB)",
                  file=sys.stderr)
    snapshot.touch(path)
    snapshot.prune(os.path.join(os.path.dirname(path), "*.save.zst"))
    return path


def _save(host, name, path):
    """Ends the guest, with `path` written whole or not at all."""
    tmp = f"{path}.tmp{os.getpid()}"
    err = bytearray()
    try:
        with open(tmp, "wb") as out, subprocess.Popen(["zstd", "-q", "-1"], stdin=subprocess.PIPE, stdout=out) as pack:
            status = agentclient.run(host.port, ["sh", "-c", SAVE, "sh", name], None, pack.stdin.fileno(), err,
                                     SAVE_SECONDS)
            pack.stdin.close()
        if status or pack.returncode:
            raise LabError(f"guest {name} could not be saved ({status}, zstd {pack.returncode}): {_text(err)}")
        os.rename(tmp, path)
    finally:
        if os.path.exists(tmp):
            os.unlink(tmp)


def restore(host, path, config, paused):
    """config: xl's, a file in dom0."""
    said = bytearray()
    with subprocess.Popen(["zstd", "-q", "-d", "-c", path], stdout=subprocess.PIPE) as unpack:
        argv = ["sh", "-c", RESTORE, "sh", config, "-p" if paused else ""]
        status = agentclient.run(host.port, argv, unpack.stdout.fileno(), said, said, SAVE_SECONDS)
        unpack.stdout.close()  # what is not wanted any more it need not unpack
    if status:
        raise LabError(f"xl restore {config}: exit status {status}: {_text(said)}")


def _text(said):
    return said.decode(errors="replace").strip()[-1500:]
