"""What guests write to hvc0: the logs that xenconsoled keeps in dom0."""

import agentclient

FOLDER = "/var/log/xen/console"

SHOW = """
cd /var/log/xen/console || exit 1
files=$(ls -tr "guest-$1.log" "guest-$1--incoming.log" 2>/dev/null)
[ -n "$files" ] || { echo "no console log of a guest $1" >&2; exit 1; }
exec cat $files
"""


def text(host, name):
    """All that the guest (and a domain of that name migrated here) has written to hvc0."""
    return host.output("sh", "-c", SHOW, "sh", name)


def follow(host, name, until=None, timeout=None):
    """Copies the console to stdout as it grows; with `until`, returns 0 at the first line that contains it."""
    newest = f'cd {FOLDER}; ls -t "guest-$1.log" "guest-$1--incoming.log" 2>/dev/null | head -n 1'
    log = host.output("sh", "-c", newest, "sh", name).strip() or f"guest-{name}.log"
    argv = ["lab-agent", "follow", f"{FOLDER}/{log}"] + ([until] if until else [])
    return agentclient.run(host.port, argv, timeout=timeout)
