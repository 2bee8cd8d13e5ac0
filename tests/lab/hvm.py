"""HVM guests: what dom0 needs besides, Debian's QEMU for Xen above all, and their configuration."""

import os
import secrets

import copying
import hashing
import images
import kernel as kernels
import machine
import paths
from cpio import Archive
from elfdeps import merged
from paths import LabError

QEMU = "qemu-system-xen/usr/libexec/xen-qemu-system-i386"
NBD_PLUGIN = "usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-file-plugin.so"
NBD_FILTER = "usr/lib/x86_64-linux-gnu/nbdkit/filters/nbdkit-log-filter.so"
# of packages that tests/setup/install unpacks but does not install
UNPACKED = [QEMU, "nbdkit/usr/bin/nbdkit", f"nbdkit/{NBD_PLUGIN}", f"nbdkit/{NBD_FILTER}",
            "nbd-client/sbin/nbd-client"]
# QEMU is the backend of the PV disks; the e1000 and PV interfaces hang on a bridge, which vxlan joins with the other
# hosts' bridges; nbd is for disks that several hosts have
MODULES = ["bridge", "xen-netback", "vxlan", "nbd"]
GUEST_MODULES = ["ata_piix", "sd_mod", "e1000", "xen-blkfront", "xen-netfront", "squashfs"]
FIRMWARE = ["/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/kvmvapic.bin",
            "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/linuxboot.bin", "/usr/share/qemu/keymaps/en-us",
            "/usr/lib/ipxe/qemu/efi-e1000.rom"]
FOLDER = "/lab/hvm"
EXPORTS, NBD_LOG = "/lab/nbd", "/var/log/nbdkit.log"
PAYLOAD_MIB = 128
START_SECONDS = 600  # 40 s of it the option ROM that loads the kernel, 20 s the kernel unpacking itself
BRIDGE = "xenbr0"
# emulated and PV devices side by side, the guest's choice; no UART: a byte would be a nested exit and a round trip to
# QEMU; AGP's scan would take a minute
CMDLINE = ("console=hvc0 rdinit=/init loglevel=4 tsc=reliable pci=noearly cryptomgr.notests 8250.nr_uarts=0 "
           "i8042.noaux i8042.nokbd edd=off nomodeset xen_emul_unplug=unnecessary")
WAITS = " lab-wait"  # such a guest's init stops before the payload, to be saved


def _kit(kernel, tools):
    """(name, contents) of a cpio archive to be unpacked over dom0's root, after which SETUP has to be run there, with the
    host's address if there are others; the name tells the contents."""
    image = Archive()
    for name in UNPACKED:
        image.copy(os.path.join(paths.UNPACKED, name), merged(name.partition("/")[2]))
    images.link_libraries(image, [os.path.join(paths.UNPACKED, name) for name in UNPACKED],
                          os.path.join(tools, images.LIBRARIES))
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
if [ ! -e /sys/class/net/{BRIDGE} ]; then
    ip link add {BRIDGE} type bridge
    if [ -n "$1" ]; then
        # one Ethernet for the guests of all hosts; multicast, so that no host need know the others
        ip link add hosts0 type vxlan id 1 dstport 4789 group 239.77.0.1 dev link0
        ip link set hosts0 master {BRIDGE} up
        ip addr add "10.78.0.${{1##*.}}/24" dev {BRIDGE}
    fi
fi
ip link set {BRIDGE} up
"""
PREPARE = f"""
set -e
cd /
cpio -idu 2>/dev/null
{SETUP} "$2"
touch {FOLDER}/.$1
"""

# a local disk is empty unless something was put there before
LOCAL = """
[ -e "$1" ] || truncate -s "$2M" "$1"
"""
SERVE = f"""
set -e
mkdir -p {EXPORTS}
[ -e "{EXPORTS}/$1" ] || truncate -s "$2M" "{EXPORTS}/$1"
[ -e /run/nbdkit.pid ] ||
    nbdkit -P /run/nbdkit.pid --filter=/{NBD_FILTER} /{NBD_PLUGIN} dir={EXPORTS} logfile={NBD_LOG}
"""
CONNECT = """
set -e
[ ! -e "$2" ] || exit 0
free=0
while [ -e /sys/block/nbd$free/pid ]; do free=$((free + 1)); done
nbd-client -N "$3" "$1" /dev/nbd$free >/dev/null
ln -s /dev/nbd$free "$2"
"""
# the first is used as IDE disk, the second by the PV driver; the payload is on xvde, which is too far for an IDE disk
DISKS = ("hda", "xvdb")


def disk_path(name, vdev):
    return f"{FOLDER}/{name}-{vdev}.img"


def files(name, disk):
    """For a host that prepare() can't reach: {file name: contents}, of them hvm-setup to be run in their folder."""
    lines = ["set -e", "archive=$PWD/hvm.cpio", "cd /", 'cpio -idu <"$archive" 2>/dev/null', SETUP]
    lines += [f"truncate -s {disk}M {disk_path(name, vdev)}" for vdev in (*DISKS, "xvde")]
    return {"hvm.cpio": _kit(kernels.get(), machine.Options().tools_root())[1],
            "hvm-setup": ("\n".join(lines) + "\n").encode()}


def prepare(host, name, disk, server=None):
    """What an HVM guest of that name needs is on the host afterwards, but its payload. disk: MiB of each of its disks,
    which are empty. server: the host that has them, for all hosts; None: this one, for itself."""
    kit, data = _kit(kernels.get(), machine.Options().tools_root())
    for one in [server, host] if server else [host]:
        if one.output("sh", "-c", 'test -e "$1" || echo missing', "sh", f"{FOLDER}/.{kit}"):
            one.output("sh", "-c", PREPARE, "sh", kit, one.address, stdin=data, timeout=300)
    for vdev in DISKS:
        path = disk_path(name, vdev)
        if server is None:
            host.output("sh", "-c", LOCAL, "sh", path, str(disk))
        else:
            server.output("sh", "-c", SERVE, "sh", f"{name}-{vdev}", str(disk))
            host.output("sh", "-c", CONNECT, "sh", server.address, path, f"{name}-{vdev}")
    return kit


def put_payload(host, name, payload):
    """The guest's third disk holds what is in that folder; None: nothing."""
    data = images.payload_disk(payload) if payload else b""
    if len(data) > PAYLOAD_MIB << 20:
        raise LabError(f"payload {payload}: {len(data) >> 20} MiB when packed, {PAYLOAD_MIB} at most")
    path = copying.put_image(host, f"payload-{hashing.short(data)}.img", data, PAYLOAD_MIB)
    host.output("ln", "-sf", path, disk_path(name, "xvde"))


def macs():
    """Of the e1000, and of the second PV interface: new ones each time, as xl makes them."""
    return [":".join(["00:16:3e", *(f"{byte:02x}" for byte in secrets.token_bytes(3))]) for _ in range(2)]


def config(name, mac, words=""):
    """Lines of xl.cfg. words: more of the kernel's command line."""
    disks = [f"'format=raw,vdev={vdev},access=rw,backendtype=qdisk,target={disk_path(name, vdev)}'" for vdev in DISKS]
    # not ro: an incoming QEMU 7.2 takes no read-only xen-block device ("Block node is read-only", and it never runs)
    disks.append(f"'format=raw,vdev=xvde,access=rw,backendtype=qdisk,target={disk_path(name, 'xvde')}'")
    return {"type": '"hvm"', "kernel": f'"{FOLDER}/vmlinuz"', "cmdline": f'"{CMDLINE}{words}"', "vga": '"stdvga"',
            "vnc": "0", "sdl": "0", "disk": f"[{', '.join(disks)}]",
            "vif": f"['type=ioemu,model=e1000,bridge={BRIDGE},mac={mac[0]}', "
                   f"'type=vif,bridge={BRIDGE},mac={mac[1]}']"}
