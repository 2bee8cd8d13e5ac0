"""The command line of an emulated Xen host. A snapshot fits only the very command line it was made with."""

import os
import re
import subprocess
from collections import namedtuple

import paths
from paths import LabError

QEMU = "qemu-system-x86_64"
# qemu64 and nothing more: SMAP/SMEP crash a PV dom0, rdtscp and AVX break nested guests
CPU = "qemu64,+svm,+npt"
FLAVOURS = ("release", "debug", "stock")


class Options(namedtuple("Options", "mem dom0_mem cpus xen xen_args tools exact",
                         defaults=(3072, 1024, 1, os.environ.get("LAB_XEN", "release"), "", "", False))):
    """What a host is made of. Sizes in MiB; xen: a flavour of xen-build's or a folder with `xen` in it, LAB_XEN is the
    one that is taken where nobody says which (`make test LAB_XEN=debug`); xen_args: more of its command line; tools: ""
    or another install root than xen-build's; exact: for exact mode, the virtual ns that an instruction takes (a power of two)."""

    def xen_image(self):
        folder = self.xen
        if self.xen in FLAVOURS:
            folder = os.path.join(paths.XEN_OUT, f"hypervisor-{self.xen}")
            _built(os.path.join(folder, "xen"), "hypervisor", self.xen)
        image = os.path.realpath(os.path.join(folder, "xen"))
        if not os.path.isfile(image):
            raise LabError(f"--xen {self.xen}: no file {image}")
        return image

    def tools_root(self):
        if self.tools:
            return os.path.realpath(self.tools)
        folder = os.path.join(paths.XEN_OUT, "tools")
        _built(os.path.join(folder, "usr", "sbin", "xl"), "tools")
        return os.path.realpath(folder)


def _built(path, *verb):
    if not os.path.exists(path):
        done = subprocess.run([paths.XEN_BUILD, *verb], stdout=subprocess.DEVNULL, check=False)
        if done.returncode or not os.path.exists(path):
            raise LabError(f"tests/xen/xen-build {' '.join(verb)} failed")


def qemu_version():
    out = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return out.splitlines()[0]


def xen_cmdline(o):
    words = ["console=com1", "com1=115200,8n1", "loglvl=all", "guest_loglvl=all", "conring_size=4M",
             # so that a burst of guests' lines is buffered, not dropped
             "serial_tx_buffer=1M",
             f"dom0_mem={o.dom0_mem}M,max:{o.dom0_mem}M", f"dom0_max_vcpus={o.cpus}", "dom0=pv",
             "bootscrub=0", "watchdog=0",
             # a crashed host stays as it is, to be looked at
             "noreboot"]
    if o.exact:
        words.append("console_timestamps=boot")
    return " ".join(words + o.xen_args.split())


def dom0_cmdline(o):
    words = ["console=hvc0", "rdinit=/init", "loglevel=4", "tsc=reliable", "random.trust_cpu=on"]
    if o.exact:
        words.append("lab-exact")
    return " ".join(words)


def _comma(text):
    return text.replace(",", ",,")


def common(o, folder):
    """Arguments that make the machine; the same for a snapshot's making and each restore of it. `folder` has
    links named xen, vmlinux and dom0.cpio, and is QEMU's working directory."""
    accel = "tcg,thread=single" if o.exact else "tcg,thread=multi"
    args = [QEMU, "-name", "lab,debug-threads=on", "-pidfile", os.path.join(folder, "qemu.pid"),
            "-machine", "q35", "-accel", accel, "-cpu", CPU, "-smp", str(o.cpus), "-m", str(o.mem),
            "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot",
            "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
            "-kernel", "xen", "-append", xen_cmdline(o),
            "-initrd", f"vmlinux {_comma(dom0_cmdline(o))},dom0.cpio"]
    if o.exact:
        args += ["-icount", f"shift={o.exact.bit_length() - 1},sleep=off", "-seed", "7", "-nic", "none",
                 "-rtc", "base=2026-11-23T12:00:00,clock=vm"]
    return args


def network(link):
    """The control NIC (slirp, dom0's agent behind a port of 127.0.0.1 that QEMU chooses) and the link NIC.
    `link` is the -netdev argument list whose id is `link`."""
    return ["-netdev", "user,id=ctl,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-10.0.2.15:7",
            "-device", "virtio-net-pci,netdev=ctl,mac=52:54:00:77:01:00,addr=3,romfile=",
            *link,
            # cheaper here than virtio-net, which has no segmentation offload on a socket: see README.md
            "-device", "e1000e,netdev=link,mac=52:54:00:77:00:00,addr=4,romfile="]


def agent_port(qmp):
    """The port of 127.0.0.1 that leads to dom0's agent."""
    table = qmp.monitor("info usernet")
    match = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", table)
    if not match:
        raise LabError("QEMU shows no forwarded port:\n" + table)
    return int(match.group(1))
