"""Guests on a host: PVH, and HVM (hvm.py)."""

import os
import re
import time

import agentclient
import consoles
import hashing
import hvm
import images
import kernel as kernels
import paths
from paths import LabError

FOLDER = "/lab/guests"
START_SECONDS = 180
CMDLINE = ("console=hvc0 rdinit=/init loglevel=4 tsc=reliable pci=noearly cryptomgr.notests 8250.nr_uarts=0 "
           "i8042.noaux i8042.nokbd")
GUEST_UP = "lab: guest up"


def _config(name, memory, vcpus, kind, lines):
    """xl's configuration; a line of the kind's, or of the caller's, replaces the one with the same key."""
    config = {"name": f'"{name}"', "type": '"pvh"', "kernel": '"/lab/vmlinux"',
              "ramdisk": f'"{FOLDER}/{name}.cpio"', "cmdline": f'"{CMDLINE}"', "memory": str(memory),
              "vcpus": str(vcpus), "on_crash": '"preserve"',
              # Xen does not trust qemu64's TSC and would trap every rdtsc: 70 to 100 us each here, so a
              # clock_gettime() takes 300 us and a guest does a thirtieth of its work (seen).
              "tsc_mode": '"native"'} | kind
    for line in lines:
        match = re.match(r"\s*(\w+)\s*=\s*(.+)", line)
        if not match:
            raise LabError(f"--cfg {line!r}: a line of xl.cfg, KEY=VALUE")
        config[match.group(1)] = match.group(2)
    return "".join(f"{key}={value}\n" for key, value in config.items())


def _image(payload, modules=()):
    """(name, contents) of the guest's initramfs; the name tells the contents."""
    data = images.guest(kernels.get(), payload, modules)
    return f"guest-{hashing.short(data)}.cpio", data


def write_files(folder, name, memory, vcpus, payload, lines, disk=None):
    """For hosts that `lab guest` cannot reach (exact mode): NAME.cpio and NAME.cfg, which belong into FOLDER there, and what
    an HVM guest needs besides."""
    found = {f"{name}.cpio": _image(payload, () if disk is None else hvm.GUEST_MODULES)[1],
             f"{name}.cfg": _config(name, memory, vcpus, {} if disk is None else hvm.config(name), lines).encode()}
    for file, data in (found | ({} if disk is None else hvm.files(name, disk))).items():
        paths.write_atomic(os.path.join(folder, file), data)


PUT = 'set -e; mkdir -p /lab/images; cat >"/lab/images/$1.tmp"; mv "/lab/images/$1.tmp" "/lab/images/$1"'
LINK = 'mkdir -p /lab/guests; ln -sf "/lab/images/$2" "/lab/guests/$1.cpio"'
START = """
set -e
name=$1; paused=$2
if xl domid "$name" >/dev/null 2>&1; then echo "a domain $name exists already" >&2; exit 1; fi
rm -f /var/log/xen/console/guest-"$name".log /var/log/xen/console/guest-"$name"--incoming.log
exec xl create $paused "/lab/guests/$name.cfg"
"""


def prepare(host, name, payload, disk):
    """All files of a guest of that name but its configuration are on the host afterwards: what a host needs that an HVM
    guest is to be moved to. disk: None for a PVH guest, else MiB of each disk of an HVM guest."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise LabError(f"guest name {name!r}: letters, digits, - and _")
    if disk is not None:
        hvm.prepare(host, name, disk)
    image, data = _image(payload, () if disk is None else hvm.GUEST_MODULES)
    if agentclient.run(host.port, ["test", "-e", f"/lab/images/{image}"], None, None, None, 60):
        host.output("sh", "-c", PUT, "sh", image, stdin=data, timeout=120)
    host.output("sh", "-c", LINK, "sh", name, image)


def start(host, name, memory, vcpus, payload, lines, paused, disk=None):
    """As prepare(), and the guest is started. Returns when the guest's init is about to run the payload; with `paused`, when the domain is built."""
    prepare(host, name, payload, disk)
    config = _config(name, memory, vcpus, {} if disk is None else hvm.config(name), lines)
    seconds = START_SECONDS if disk is None else hvm.START_SECONDS
    host.output("sh", "-c", 'cat >"/lab/guests/$1.cfg"', "sh", name, stdin=config.encode())
    host.output("sh", "-c", START, "sh", name, "-p" if paused else "", timeout=seconds)
    if not paused:
        _wait_up(host, name, seconds)


def _wait_up(host, name, seconds):
    """Woken by the console's line; a look every 5 s tells a guest that died from one that is slow."""
    follow = ["lab-agent", "follow", f"{consoles.FOLDER}/guest-{name}.log", GUEST_UP]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = agentclient.run(host.port, follow, None, None, None, 5)
        if status == 0:
            return
        if status != agentclient.TIMED_OUT:
            raise LabError(f"waiting for guest {name}'s console failed ({status})")
        listing = host.output("sh", "-c", 'xl list "$1" || true', "sh", name).splitlines()
        state = listing[-1].split()[4] if len(listing) > 1 else "gone"
        if state == "gone" or set(state) & set("csd"):
            raise _not_up(host, name, f"state {state}")
    raise _not_up(host, name, f"not within {seconds} s")


def _not_up(host, name, why):
    return LabError(f"guest {name} did not come up ({why}); its console:\n{consoles.text(host, name)}")
