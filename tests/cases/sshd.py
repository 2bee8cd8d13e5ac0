"""ssh between the hosts of a lab, with keys."""

KEYS = "/etc/ssh/ssh_host_ed25519_key"
# what an emulated CPU without AES or AVX does best
FAST = ("Ciphers chacha20-poly1305@openssh.com", "KexAlgorithms curve25519-sha256", "HostKeyAlgorithms ssh-ed25519")
SSHD = (f"HostKey {KEYS}", "PermitRootLogin prohibit-password", "PasswordAuthentication no",
        "KbdInteractiveAuthentication no", "UsePAM no", "SetEnv POSTCOPY_OPTIONS=--verify")
# a root made of packages does not have it
ACCOUNT = "sshd:x:991:65534:sshd:/run/sshd:/bin/false"


def start_sshd(lab):
    """Keys of this run, everybody lets root of a in, a knows everybody; sshd ends with the lab."""
    lab.sh("a", "umask 077; mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 && "
           f"printf '%s\\n' {' '.join(repr(line) for line in FAST)} >/root/.ssh/config")
    user = lab.sh("a", "cat /root/.ssh/id_ed25519.pub").strip()
    for host in lab.names:
        lab.sh(host, f"grep -q ^sshd: /etc/passwd || echo '{ACCOUNT}' >>/etc/passwd")
        lab.sh(host, f"umask 077; mkdir -p /root/.ssh /etc/ssh /run/sshd && chmod 755 /run/sshd && "
               f"ssh-keygen -q -t ed25519 -N '' -f {KEYS} && echo '{user}' >/root/.ssh/authorized_keys && "
               f"printf '%s\\n' {' '.join(repr(line) for line in SSHD)} >/etc/ssh/sshd_config && /usr/sbin/sshd")
        key = " ".join(lab.sh(host, f"cat {KEYS}.pub").split()[:2])
        lab.sh("a", f"echo '{host} {key}' >>/root/.ssh/known_hosts")
