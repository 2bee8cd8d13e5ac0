"""`lab save-state`: what is left of a hang or a crash, before anything is ended."""

import os
import shutil

import agentclient
import paths
from paths import LabError
from qmp import Qmp

SECONDS = 20
XENCTX = "/usr/lib/xen-4.17/bin/xenctx"
# what the hypervisor prints: domains and vcpus, run queues, registers of every CPU, event channels, timers
DEBUG_KEYS = "qrdea"
COMMANDS = {
    "xl-list.txt": "xl list -v",
    "xl-vcpu-list.txt": "xl vcpu-list",
    "xl-info.txt": "xl info",
    "xenstore.txt": "xenstore-ls -f",
    "processes.txt": "ps -o pid,ppid,stat,args; cd /proc; for p in [0-9]*; do echo $p $(cat $p/wchan); done",
    "dom0-dmesg.txt": "dmesg",
    "xl-dmesg.txt": f"for k in $(echo {DEBUG_KEYS} | sed 's/./& /g'); do xl debug-keys $k; done; xl dmesg",
}
# every vcpu of every guest, twice: a vcpu that moved between the two is not stuck
VCPUS = f"""
for round in 1 2; do
    xl vcpu-list | awk 'NR > 1 && $2 > 0 {{ print $2, $3, $1 }}' | while read -r dom vcpu name; do
        echo "== round $round: domain $dom ($name) vcpu $vcpu"
        timeout 5 {XENCTX} -a "$dom" "$vcpu" 2>&1
    done
done
for dom in $(xl list | awk 'NR > 1 && $2 > 0 {{ print $2 }}'); do
    echo "== hvm context of domain $dom"
    timeout 5 xen-hvmctx "$dom" 2>&1
done
"""
PAGER = """
for d in $(xl list | awk 'NR > 1 { print $1 }'); do
    echo "== $d"; timeout 5 xenpaging-pc status --json "$d" 2>&1
done
"""


def _from_dom0(host, folder, name, command):
    """One command's output; a host that does not answer costs SECONDS once, then is not asked again."""
    out = bytearray()
    try:
        status = agentclient.run(host.port, ["bash", "-c", command], None, out, out, SECONDS)
    except LabError as e:
        out += f"\n[{e}]\n".encode()
        status = agentclient.TIMED_OUT
    if status == agentclient.TIMED_OUT:
        out += f"\n[no end within {SECONDS} s]\n".encode()
    paths.write_atomic(os.path.join(folder, name), bytes(out))
    return status != agentclient.TIMED_OUT


def from_qemu(host_folder, folder):
    """The emulated CPUs' registers, into qemu-monitor.txt; also of a host whose software hangs."""
    try:
        with Qmp(os.path.join(host_folder, "qmp.sock"), SECONDS) as qmp:
            text = "".join(f"== {line}\n{qmp.monitor(line)}\n" for line in
                           ("info status", "info registers -a", "info registers -a", "info pic",
                            "info network", "info usernet"))
    except LabError as e:
        text = f"[{e}]\n"
    paths.write_atomic(os.path.join(folder, "qemu-monitor.txt"), text)


def save(all_hosts, target):
    """A folder per host below `target`. Works, with less in it, on hosts that hang or are gone."""
    for host in all_hosts:
        folder = os.path.join(target, host.name)
        os.makedirs(folder, exist_ok=True)
        # the emulated CPUs first: the later questions change what they do
        from_qemu(host.folder, folder)
        answers = host.alive() and _from_dom0(host, folder, "xenctx.txt", VCPUS)
        for name, command in (COMMANDS | {"pager-status.txt": PAGER}).items():
            if answers:
                answers = _from_dom0(host, folder, name, command)
        if answers:
            _consoles(host, folder)
        for name in ("serial.log", "qemu.log"):
            shutil.copyfile(os.path.join(host.folder, name), os.path.join(folder, name))


def _consoles(host, folder):
    out = bytearray()
    command = ('cd /var/log/xen && for f in console/* *.log /var/log/xenpaging-pc*; do '
               '[ -f "$f" ] && { echo "== $f"; cat "$f"; }; done')
    agentclient.run(host.port, ["bash", "-c", command], None, out, None, SECONDS)
    paths.write_atomic(os.path.join(folder, "consoles.txt"), bytes(out))
