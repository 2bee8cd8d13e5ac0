"""The root file systems: one for dom0, one per payload for guests. Both live in memory (initramfs)."""

import glob
import os
import subprocess
import tempfile

import kernel as kernels
import paths
from cpio import Archive
from elfdeps import closure, is_elf, merged
from paths import LabError

DOM0_MODULES = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "virtio_pci",
                "virtio_net", "e1000e", "sch_tbf", "sch_netem", "sch_prio", "cls_u32", "ifb",
                "act_mirred", "tun"]
# loaded when a job is looked for, never at boot: an earlier probe would fix what the firmware shows
DOM0_MODULES_LATER = ["qemu_fw_cfg"]
GUEST_MODULES = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc"]
HERE_PROGRAMS = ["bash", "tc", "ip", "ss", "socat", "strace", "timeout", "stdbuf", "gdbserver", "ssh",
                 "ssh-keygen"]
# of packages that tests/setup/install unpacks but does not install
UNPACKED_PROGRAMS = ["openssh-server/usr/sbin/sshd"]
UNPACKED_LIBRARIES = ["libwrap0/usr/lib/x86_64-linux-gnu"]
EXTRA_LIBRARIES = ["libev.so.4", "libjansson.so.4", "libxxhash.so.0", "libseccomp.so.2", "libgcc_s.so.1",
                   "libpthread.so.0", "libdl.so.2", "librt.so.1", "libnss_files.so.2", "libm.so.6",
                   "libubsan.so.1", "libasan.so.8"]
TOOL_FOLDERS = ["usr/sbin", "usr/bin", "usr/lib/xen-4.17/bin"]
# of an install root that is made of Debian packages: what /usr/sbin/xl leads to; such a root's own files
DEBIAN_WRAPPERS = "usr/lib/xen-common/bin"
DEBIAN_OWN = ["etc/xen", "etc/passwd", "etc/group"]
LIBRARIES = "usr/lib/x86_64-linux-gnu"
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
                  "xenpaging-pc:x:990:990:xenpaging-pc feeder:/nonexistent:/bin/false\n"
                  "sshd:x:991:65534:sshd:/run/sshd:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\nxenpaging-pc:x:990:\n",
    "etc/hosts": "127.0.0.1 localhost\n10.77.0.1 a\n10.77.0.2 b\n10.77.0.3 c\n10.77.0.4 d\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/xen/xl.conf": 'autoballoon="off"\n',
}


def agent():
    """dom0's agent, built static when its source is newer."""
    return compile_c("agent.c", "lab-agent", ["-static"])


def compile_c(source, name, flags):
    source = os.path.join(paths.HERE, source)
    target = paths.cache("bin", name)
    if not os.path.exists(target) or os.path.getmtime(target) <= os.path.getmtime(source):
        tmp = f"{target}.tmp{os.getpid()}"
        subprocess.run(["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", tmp, source, *flags], check=True)
        os.rename(tmp, target)
    return target


def which(name):
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    return None


def _library_here(name):
    for folder in ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    return None


def _skeleton(image):
    for name in ("bin", "sbin", "lib", "lib64"):
        image.link(name, f"usr/{name}")
        image.directory(f"usr/{name}")
    for name in ("dev", "proc", "sys", "mnt", "etc", "var/lib", "lab"):
        image.directory(name)
    image.directory("root", 0o700)
    image.directory("tmp", 0o1777)
    image.chardev("dev/console", 5, 1)
    busybox = which("busybox")
    if not busybox:
        raise LabError("busybox-static is not installed (tests/setup/packages.txt)")
    image.copy(busybox, "usr/bin/busybox", follow=True)
    applets = subprocess.run([busybox, "--list-full"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in applets.split():
        if os.path.basename(name) != "busybox":
            image.link(merged(name), "/bin/busybox")


def _modules(image, kernel, now, later=()):
    files = kernels.module_files(kernel, now)
    for path in files + kernels.module_files(kernel, later):
        image.copy(path, "lab/modules/" + os.path.basename(path))
    image.file("lab/modules/order", "".join(os.path.basename(p) + "\n" for p in files))


def link_libraries(image, programs, *library_folders):
    for name, path in closure(programs, *library_folders).items():
        image.copy(path, name, follow=True)


def dom0(kernel, tools):
    """dom0's initramfs as bytes. `tools` is xen-build's install root, or one of Debian packages."""
    image = Archive()
    _skeleton(image)
    _modules(image, kernel, DOM0_MODULES, DOM0_MODULES_LATER)
    for name, text in ACCOUNTS.items():
        image.file(name, text)
    for name in ("run", "var/lib/xen/dump", "var/log/xen/console", "var/lib/xenstored", "var/lock"):
        image.directory(name)
    image.link("var/run", "/run")

    programs = []
    packaged = os.path.isdir(os.path.join(tools, DEBIAN_WRAPPERS))
    for name in DEBIAN_OWN if packaged else []:
        path = os.path.join(tools, name)
        if os.path.isdir(path):
            image.tree(path, name)
        else:
            image.copy(path, name)
    for folder in TOOL_FOLDERS + ([DEBIAN_WRAPPERS] if packaged else []):
        for path in sorted(glob.glob(os.path.join(tools, folder, "*"))):
            image.copy(path, os.path.join(folder, os.path.basename(path)))
            programs += [path] if is_elf(path) else []
    for path in sorted(glob.glob(os.path.join(tools, LIBRARIES, "lib*.so.*"))):
        image.copy(path, f"{LIBRARIES}/{os.path.basename(path)}")
    for name in HERE_PROGRAMS:
        path = which(name)
        if path:
            image.copy(path, merged(path), follow=True)
            programs.append(path)
    for name in UNPACKED_PROGRAMS:
        path = os.path.join(paths.UNPACKED, name)
        if os.path.exists(path):
            image.copy(path, merged(name.partition("/")[2]))
            programs.append(path)
    for name in EXTRA_LIBRARIES:
        path = _library_here(name)
        if path:
            image.copy(path, f"{LIBRARIES}/{name}", follow=True)
            programs.append(os.path.realpath(path))
    # BusyBox's sh prefers its own applets (tc, ip) to the real programs; bash looks along PATH
    image.link("usr/bin/sh", "bash")
    if os.path.isdir(paths.DOM0_EXTRA):
        image.tree(paths.DOM0_EXTRA, rename=merged)
        programs += [p for p in glob.glob(paths.DOM0_EXTRA + "/**", recursive=True) if is_elf(p)]
    link_libraries(image, programs, os.path.join(tools, LIBRARIES),
                    *(os.path.join(paths.UNPACKED, name) for name in UNPACKED_LIBRARIES))
    for path in glob.glob(os.path.join(tools, LIBRARIES, "lib*.so.*")):
        # the links of the install root, not the copies that ldd's answer would make of them
        image.copy(path, f"{LIBRARIES}/{os.path.basename(path)}")

    image.copy(agent(), "usr/sbin/lab-agent")
    image.copy(os.path.join(paths.HERE, "dom0-init"), "init")
    image.copy(os.path.join(paths.HERE, "exact-loop"), "lab/exact-loop")
    image.file("lab/vmlinux", paths.read_bytes(kernel.vmlinux))
    return image.pack()


def _payload(image, payload):
    if not os.access(os.path.join(payload, "run"), os.X_OK):
        raise LabError(f"payload {payload}: no executable file named run in it")
    image.tree(payload, "payload")
    programs = [p for p in glob.glob(payload + "/**", recursive=True) if is_elf(p)]
    if programs:
        link_libraries(image, programs)


def guest(kernel, payload, modules=(), with_agent=False):
    """A guest's initramfs as bytes: its init runs /payload/run, or a shell if there is no payload."""
    image = Archive()
    _skeleton(image)
    _modules(image, kernel, [*GUEST_MODULES, *modules])
    image.file("etc/passwd", ACCOUNTS["etc/passwd"])
    image.copy(os.path.join(paths.HERE, "guest-init"), "init")
    if with_agent:
        image.copy(agent(), "usr/sbin/lab-agent")
    if payload:
        _payload(image, payload)
    return image.pack()


def payload_disk(payload):
    """A squashfs as bytes: the payload and its libraries, where they would be in an initramfs."""
    image = Archive()
    _payload(image, payload)
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        tree, disk = os.path.join(folder, "tree"), os.path.join(folder, "disk")
        os.mkdir(tree)
        subprocess.run(["cpio", "-idm", "--quiet"], cwd=tree, input=image.pack(), check=True)
        subprocess.run(["mksquashfs", tree, disk, "-all-root", "-mkfs-time", "0", "-all-time", "0", "-comp", "lz4",
                        "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
        return paths.read_bytes(disk)
