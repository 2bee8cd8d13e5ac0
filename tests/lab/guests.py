"""Guests on a host: PVH, and HVM (hvm.py)."""

import os
import re
import secrets
import time

import agentclient
import consoles
import copying
import hashing
import hvm
import images
import kernel as kernels
import paths
import saved
from paths import LabError

FOLDER = "/lab/guests"
START_SECONDS = 180
CMDLINE = ("console=hvc0 rdinit=/init loglevel=4 tsc=reliable pci=noearly cryptomgr.notests 8250.nr_uarts=0 "
           "i8042.noaux i8042.nokbd")
GUEST_UP, GUEST_WAITS = "lab: guest up", "lab: guest waits"
MACS = ("00:16:3e:00:00:01", "00:16:3e:00:00:02")  # where each run is to be like the other
BOOTS = "lab-boots"  # name of a guest that boots to be saved


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


def _image(payload, modules=(), with_agent=False):
    """(name, contents) of the guest's initramfs; the name tells the contents."""
    data = images.guest(kernels.get(), payload, modules, with_agent)
    return f"guest-{hashing.short(data)}.cpio", data


def write_files(folder, name, memory, vcpus, payload, lines, disk=None):
    """For hosts that `lab guest` cannot reach (exact mode): NAME.cpio and NAME.cfg, which belong into FOLDER there, and what
    an HVM guest needs besides."""
    found = {f"{name}.cpio": _image(payload, () if disk is None else hvm.GUEST_MODULES)[1],
             f"{name}.cfg": _config(name, memory, vcpus, {} if disk is None else hvm.config(name, MACS), lines).encode()}
    for file, data in (found | ({} if disk is None else hvm.files(name, disk))).items():
        paths.write_atomic(os.path.join(folder, file), data)


LINK = 'mkdir -p /lab/guests; ln -sf "$2" "/lab/guests/$1.cpio"'
NEW = """
set -e
name=$1
if xl domid "$name" >/dev/null 2>&1; then echo "a domain $name exists already" >&2; exit 1; fi
rm -f /var/log/xen/console/guest-"$name".log /var/log/xen/console/guest-"$name"--incoming.log
cat >"/lab/guests/$name.cfg"
"""
START = 'exec xl create $2 "/lab/guests/$1.cfg"'
# a line for the guest's init
TELL = 'echo "$2" >"$(xenstore-read "/local/domain/$(xl domid "$1")/console/tty")"'


class Kind:
    """What guests are made from besides memory and vcpus. disk: None for a PVH guest, else MiB of each disk of an HVM
    guest; server: the host that has these for all hosts, None for disks of each host's own."""

    def __init__(self, payload=None, disk=None, server=None):
        self.payload, self.disk, self.server = payload, disk, server


def prepare(host, name, kind):
    """All files of a guest of that name but its configuration are on the host afterwards: what a host needs that an HVM
    guest is to be moved to. Returns what the guest depends on besides its configuration."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise LabError(f"guest name {name!r}: letters, digits, - and _")
    if kind.disk is None:
        image, data = _image(kind.payload)
        kit = ""
    else:
        kit = hvm.prepare(host, name, kind.disk, kind.server)
        hvm.put_payload(host, name, kind.payload)
        image, data = _image(None, hvm.GUEST_MODULES, True)
    host.output("sh", "-c", LINK, "sh", name, copying.put_image(host, image, data))
    return [kit, image]


def start(host, name, memory, vcpus, lines, paused, kind):
    """As prepare(), and the guest is started. Returns when the guest's init is about to run the payload; with `paused`,
    when the domain is built."""
    depends = prepare(host, name, kind)
    if kind.disk is None:
        seconds = START_SECONDS
        _create(host, name, _config(name, memory, vcpus, {}, lines), paused, seconds)
    else:
        seconds = hvm.START_SECONDS
        _restore(host, name, memory, vcpus, lines, paused, kind, depends)
    if not paused:
        _wait_for(host, name, GUEST_UP, seconds)


def _create(host, name, config, paused, seconds):
    host.output("sh", "-c", NEW, "sh", name, stdin=config.encode())
    host.output("sh", "-c", START, "sh", name, "-p" if paused else "", timeout=seconds)


def _restore(host, name, memory, vcpus, lines, paused, kind, depends):
    """An HVM guest: from one that was booted once; it is told who it is."""
    def config(guest, macs, words=""):
        return _config(guest, memory, vcpus, hvm.config(guest, macs, words), lines)

    def boot():
        prepare(host, BOOTS, Kind(None, kind.disk))
        _create(host, BOOTS, config(BOOTS, hvm.macs(), hvm.WAITS), False, hvm.START_SECONDS)
        try:
            _wait_for(host, BOOTS, GUEST_WAITS, hvm.START_SECONDS)
        except LabError:
            host.output("xl", "destroy", BOOTS)
            raise
        return BOOTS

    key = hashing.short(host.inputs["xen"], host.inputs["image"], str(kind.disk), *depends,
                        config("", ("", ""), hvm.WAITS))
    path = saved.ensure(key, host, boot)
    macs = hvm.macs()
    host.output("sh", "-c", NEW, "sh", name, stdin=config(name, macs).encode())
    saved.restore(host, path, f"/lab/guests/{name}.cfg", paused)
    host.output("sh", "-c", TELL, "sh", name, f"{macs[0]} {time.time():.0f} {secrets.token_hex(32)}")


def _wait_for(host, name, line, seconds):
    """Woken by the console's line; a look every 5 s tells a guest that died from one that is slow."""
    follow = ["lab-agent", "follow", f"{consoles.FOLDER}/guest-{name}.log", line]
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
