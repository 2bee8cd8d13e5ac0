"""Debian's kernel for dom0 and guests: the package unpacked under build/, nothing installed."""

import fcntl
import glob
import lzma
import os
import re
import subprocess

import paths
from paths import LabError

META = "linux-image-amd64"


def _apt(*args, cwd=None):
    done = subprocess.run(args, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return done.stdout if done.returncode == 0 else None


def _package_name():
    out = _apt("apt-cache", "depends", META) or ""
    match = re.search(r"Depends: (linux-image-\S+-amd64)", out)
    return match and match.group(1)


def _download(folder):
    os.makedirs(folder, exist_ok=True)
    for attempt in (1, 2):
        name = _package_name()
        fetch = ["apt-get", "-o", "APT::Sandbox::User=root", "download", name]
        if name and _apt(*fetch, cwd=folder) is not None:
            return
        # a fresh machine has no package lists, an old one stale ones
        if attempt == 1 and _apt("apt-get", "update") is None:
            break
    raise LabError(f"Debian's kernel package cannot be fetched (apt-get download of what {META} depends on)")


def vmlinux(bzimage):
    """The ELF inside a bzImage: Xen would have to unpack it at every start, emulated."""
    magic = b"\xfd7zXZ\x00"
    at = bzimage.find(magic)
    while at >= 0:
        try:
            elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(bzimage[at:])
        except lzma.LZMAError:
            elf = b""
        if elf.startswith(b"\x7fELF"):
            return elf
        at = bzimage.find(magic, at + 1)
    raise LabError("no xz-packed ELF in Debian's kernel; kernel.py has to learn its packing")


class Kernel:
    """version (6.1.0-N-amd64), package (name_version.deb), vmlinux and bzimage (paths), modules (folder)."""

    def __init__(self, base):
        debs = glob.glob(os.path.join(base, "dl", "linux-image-*.deb"))
        if len(debs) != 1:
            raise LabError(f"{base}/dl: one kernel package expected, {len(debs)} found")
        self.package = os.path.basename(debs[0])
        self.version = self.package.split("_")[0].removeprefix("linux-image-")
        self.vmlinux = os.path.join(base, "vmlinux")
        self.bzimage = os.path.join(base, "root", "boot", f"vmlinuz-{self.version}")
        self.modules = os.path.join(base, "root", "lib", "modules", self.version)


def get():
    """Fetched on first use; later calls use what is there, so one tree keeps one kernel."""
    base = paths.cache("kernel", "")
    with open(os.path.join(base, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not glob.glob(os.path.join(base, "dl", "linux-image-*.deb")):
            _download(os.path.join(base, "dl"))
        kernel = Kernel(base)
        if not os.path.exists(kernel.vmlinux):
            deb = os.path.join(base, "dl", kernel.package)
            root = os.path.join(base, "root")
            subprocess.run(["dpkg", "-x", deb, root], check=True)
            paths.write_atomic(kernel.vmlinux, vmlinux(paths.read_bytes(kernel.bzimage)))
        return kernel


def module_files(kernel, names):
    """Paths of the modules and of all they depend on, in the order insmod wants. Unknown names are errors."""
    found = {}
    for folder, _, files in os.walk(kernel.modules):
        for name in files:
            if name.endswith(".ko"):
                found[name[:-3].replace("-", "_")] = os.path.join(folder, name)
    order = []

    def visit(name):
        path = found.get(name.replace("-", "_"))
        if path is None:
            raise LabError(f"kernel {kernel.version} has no module {name}")
        if path in order:
            return
        match = re.search(rb"\0depends=([^\0]*)\0", paths.read_bytes(path))
        for dep in filter(None, match.group(1).decode().split(",") if match else []):
            visit(dep)
        order.append(path)

    for name in names:
        visit(name)
    return order
