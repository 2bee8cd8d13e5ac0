"""Names made from contents."""

import hashlib
import os


def full(*parts):
    """sha256 over the parts, each kept apart from the next."""
    h = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        h.update(b"%d:" % len(data))
        h.update(data)
    return h.hexdigest()


def short(*parts):
    return full(*parts)[:16]


def stats(folder):
    """A line per file below `folder`: notices any change, and is quicker than reading them."""
    out = []
    for at, dirs, files in os.walk(folder):
        dirs.sort()
        for name in sorted(files):
            path = os.path.join(at, name)
            s = os.lstat(path)
            out.append(f"{os.path.relpath(path, folder)} {s.st_mode} {s.st_size} {s.st_mtime_ns}")
    return "\n".join(out)
