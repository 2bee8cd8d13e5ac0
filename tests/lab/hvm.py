"""HVM guests: what dom0 needs besides, Debian's QEMU for Xen above all, and their configuration."""

import os

import hashing
import images
import kernel as kernels
import machine
import paths
from cpio import Archive
from elfdeps import merged

QEMU = "qemu-system-xen/usr/libexec/xen-qemu-system-i386"
# QEMU is the backend of the PV disk; the e1000 and PV interfaces hang on a bridge
MODULES = ["bridge", "xen-netback"]
GUEST_MODULES = ["ata_piix", "sd_mod", "e1000", "xen-blkfront", "xen-netfront"]
FIRMWARE = ["/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/kvmvapic.bin",
            "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/linuxboot.bin", "/usr/share/qemu/keymaps/en-us",
            "/usr/lib/ipxe/qemu/efi-e1000.rom"]
FOLDER = "/lab/hvm"
START_SECONDS = 400  # 40 s of it the option ROM that loads the kernel, 20 s the kernel unpacking itself
BRIDGE = "xenbr0"
# emulated and PV devices side by side, the guest's choice; no UART: a byte would be a nested exit and a round trip to QEMU;
# AGP's scan would take a minute
CMDLINE = ("console=hvc0 rdinit=/init loglevel=4 tsc=reliable pci=noearly cryptomgr.notests 8250.nr_uarts=0 "
           "i8042.noaux i8042.nokbd edd=off nomodeset xen_emul_unplug=unnecessary")


def _kit(kernel, tools):
    """(name, contents) of a cpio archive to be unpacked over dom0's root, after which SETUP has to be run there; the name
    tells the contents."""
    image = Archive()
    qemu = os.path.join(paths.UNPACKED, QEMU)
    image.copy(qemu, merged(QEMU.partition("/")[2]))
    images.link_libraries(image, [qemu], os.path.join(tools, images.LIBRARIES))
    for path in FIRMWARE:
        image.copy(path, path, follow=True)
    image.copy(os.path.join(tools, "usr/lib/xen-4.17/boot/hvmloader"), "usr/lib/xen-4.17/boot/hvmloader")
    image.tree(os.path.join(tools, "etc/xen/scripts"), "etc/xen/scripts")
    image.file(f"{FOLDER}/vmlinuz", paths.read_bytes(kernel.bzimage))
    files = kernels.module_files(kernel, MODULES)
    for path in files:
        image.copy(path, f"{FOLDER}/modules/{os.path.basename(path)}")
    image.file(f"{FOLDER}/modules/order", "".join(os.path.basename(p) + "\n" for p in files))
    image.file(SETUP, SETUP_SCRIPT, 0o755)
    data = image.pack()
    return f"hvm-{hashing.short(data)}", data


SETUP = f"{FOLDER}/setup"
SETUP_SCRIPT = f"""#!/bin/sh
set -e
while read -r module; do
    [ -e "/sys/module/$(basename "$module" .ko | tr - _)" ] || insmod "{FOLDER}/modules/$module"
done <{FOLDER}/modules/order
[ -e /sys/class/net/{BRIDGE} ] || ip link add {BRIDGE} type bridge
ip link set {BRIDGE} up
"""
PREPARE = f"""
set -e
cd /
cpio -idu 2>/dev/null
{SETUP}
touch {FOLDER}/.$1
"""


DISK = """
[ -e "$1" ] || truncate -s "$2M" "$1"
"""
# the first is used as IDE disk, the second by the PV driver
DISKS = ("hda", "xvdb")


def _disk(name, vdev):
    return f"{FOLDER}/{name}-{vdev}.img"


def files(name, disk):
    """For a host that prepare() can't reach: {file name: contents}, of them hvm-setup to be run in their folder."""
    lines = ["set -e", "archive=$PWD/hvm.cpio", "cd /", 'cpio -idu <"$archive" 2>/dev/null', SETUP]
    lines += [f"truncate -s {disk}M {_disk(name, vdev)}" for vdev in DISKS]
    return {"hvm.cpio": _kit(kernels.get(), machine.Options().tools_root())[1],
            "hvm-setup": ("\n".join(lines) + "\n").encode()}


def prepare(host, name, disk):
    """What an HVM guest of that name needs is on the host afterwards; disk: MiB of each of its disks, which are empty."""
    kit, data = _kit(kernels.get(), machine.Options().tools_root())
    if host.output("sh", "-c", 'test -e "$1" || echo missing', "sh", f"{FOLDER}/.{kit}"):
        host.output("sh", "-c", PREPARE, "sh", kit, stdin=data, timeout=300)
    for vdev in DISKS:
        host.output("sh", "-c", DISK, "sh", _disk(name, vdev), str(disk))


def config(name):
    """Lines of xl.cfg."""
    disks = ", ".join(f"'format=raw,vdev={vdev},access=rw,backendtype=qdisk,target={_disk(name, vdev)}'"
                      for vdev in DISKS)
    return {"type": '"hvm"', "kernel": f'"{FOLDER}/vmlinuz"', "cmdline": f'"{CMDLINE}"', "vga": '"stdvga"',
            "vnc": "0", "sdl": "0", "disk": f"[{disks}]",
            "vif": f"['type=ioemu,model=e1000,bridge={BRIDGE}', 'type=vif,bridge={BRIDGE}']"}
