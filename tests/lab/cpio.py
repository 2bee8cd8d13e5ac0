"""An initramfs (cpio, "newc") in memory: same contents give the same bytes, whoever builds it."""

import os
import stat

S_DIR = stat.S_IFDIR | 0o755


class Archive:
    """Later entries replace earlier ones of the same name; parents are made as needed."""

    def __init__(self):
        self.entries = {}

    def _add(self, name, mode, data=b"", rdev=(0, 0)):
        name = name.strip("/")
        parent = os.path.dirname(name)
        if parent and parent not in self.entries:
            self._add(parent, S_DIR)
        self.entries[name] = (mode, data, rdev)

    def directory(self, name, mode=0o755):
        self._add(name, stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o644):
        if isinstance(data, str):
            data = data.encode()
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def chardev(self, name, major, minor, mode=0o600):
        self._add(name, stat.S_IFCHR | mode, b"", (major, minor))

    def tree(self, root, at="", rename=lambda name: name):
        """Everything below `root`, with its modes; links stay links."""
        for folder, dirs, files in os.walk(root):
            dirs.sort()
            rel = os.path.relpath(folder, root)
            for name in sorted(files) + [d for d in dirs if os.path.islink(os.path.join(folder, d))]:
                path = os.path.join(folder, name)
                self.copy(path, rename(os.path.normpath(os.path.join(at, rel, name))))
            for name in dirs:
                if not os.path.islink(os.path.join(folder, name)):
                    self._keep_dir(rename(os.path.normpath(os.path.join(at, rel, name))))

    def _keep_dir(self, name):
        if name not in self.entries:
            self.directory(name)

    def copy(self, path, name, follow=False):
        """One file or link of this machine."""
        info = os.stat(path) if follow else os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            self.link(name, os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as f:
                self.file(name, f.read(), stat.S_IMODE(info.st_mode))

    def pack(self):
        out = bytearray()
        names = sorted(self.entries)
        for number, name in enumerate(names, 1):
            mode, data, rdev = self.entries[name]
            _entry(out, name, number, mode, data, rdev)
        _entry(out, "TRAILER!!!", 0, 0, b"", (0, 0))
        return bytes(out)


def _entry(out, name, number, mode, data, rdev):
    raw = name.encode() + b"\0"
    nlink = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, nlink, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0)
    out += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
    out += bytes(-len(out) % 4)
    out += data
    out += bytes(-len(out) % 4)
