"""Shared libraries that programs need, put where a Debian with one /usr has them."""

import os
import re
import subprocess

from paths import LabError


def is_elf(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def merged(name):
    """/lib/x and lib/x are usr/lib/x, and so on: in the images the top folders are links into usr."""
    name = name.lstrip("/")
    top = name.split("/", 1)[0]
    return f"usr/{name}" if top in ("lib", "lib64", "bin", "sbin") and "/" in name else name


def closure(programs, *library_folders):
    """{path in the image: path here} of all libraries (the loader too) that `programs` need, looked for in these
    folders first."""
    found = {}
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(library_folders)}
    out = subprocess.run(["ldd", *programs], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, check=False).stdout
    for line in out.splitlines():
        if "not found" in line:
            raise LabError(f"a program for the image lacks a library: {line.strip()}")
        match = re.match(r"\s+(?:\S+ => )?(/\S+) \(0x", line)
        if not match:
            continue
        path = match.group(1)
        if os.path.dirname(path) in library_folders:
            found["usr/lib/x86_64-linux-gnu/" + os.path.basename(path)] = path
        else:
            found[merged(path)] = path
    return found
