"""A Debian in a folder, with the real apt and dpkg: what packages do to a system, and roots for the lab's hosts."""

import glob
import hashlib
import os
import shutil
import stat
import subprocess

from lab import TOP, Failure

DEBS = os.path.join(TOP, "build/deb")
# what changes with each run of apt, or is a backup of the file without the dash
PASSING = ("proc", "dev", "run", "tmp", "debs", "var/cache", "var/log", "var/lib/apt", "var/lib/dpkg",
           "etc/ld.so.cache")


def packages(pattern="*"):
    """The .deb files of `make deb` that a host needs, or those of a pattern."""
    found = sorted(glob.glob(os.path.join(DEBS, pattern + ".deb")))
    if not found:
        raise Failure(f"no {pattern}.deb in {DEBS}: make deb")
    return found


def field(deb, name):
    return subprocess.run(["dpkg-deb", "-f", deb, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class Debian:
    def __init__(self, folder, suite):
        self.root = folder
        self._must(["mmdebstrap", "--quiet", "--variant=apt", "--include=adduser", suite, folder,
                    "http://deb.debian.org/debian"])
        # no service is started in here
        path = os.path.join(folder, "usr/sbin/policy-rc.d")
        with open(path, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\nexit 101\n")
        os.chmod(path, 0o755)
        # for apt in the commands of our documentation: the answer is yes; dpkg's question about a configuration file
        # that was changed gets the answer which is its default
        with open(os.path.join(folder, "etc/apt/apt.conf.d/90test"), "w", encoding="ascii") as f:
            f.write('APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'
                    'Dpkg::Options { "--force-confold"; };\n')
        self.apt("update")

    @staticmethod
    def _must(command):
        status, said = Debian._say(command)
        if status:
            raise Failure(f"{' '.join(command)}: exit status {status}: {said[-2000:]}")
        return said

    @staticmethod
    def _say(command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", check=False)
        return done.returncode, done.stdout

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def run(self, command, check_status=True):
        """A shell command in there; what it says, or (exit status, that) if the status is the caller's to look at."""
        words = ["chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root",
                 "DEBIAN_FRONTEND=noninteractive", "bash", "-c", command]
        return self._must(words) if check_status else self._say(words)

    def apt(self, *words):
        return self.run("apt-get -q " + " ".join(words))

    def put(self, debs):
        """Names of these files for apt in there."""
        os.makedirs(self.path("debs"), exist_ok=True)
        for deb in debs:
            shutil.copy(deb, self.path("debs"))
        return " ".join("/debs/" + os.path.basename(deb) for deb in debs)

    def installed(self):
        """{package: (version, source)}"""
        out = self.run("dpkg-query -W -f '${Package} ${Version} ${source:Package} ${db:Status-Status}\\n'")
        rows = [line.split() for line in out.splitlines()]
        return {name: (version, source) for name, version, source, state in rows if state == "installed"}

    def upgrades(self, verb):
        """(packages that `apt-get VERB` would install, would remove), and what it says."""
        out = self.run(f"apt-get -s {verb}")
        rows = [line.split() for line in out.splitlines()]
        return ({w[1] for w in rows if w[:1] == ["Inst"]}, {w[1] for w in rows if w[:1] in (["Remv"], ["Purg"])}, out)

    def files(self):
        """{name: what it is} of everything but what passes."""
        found = {}
        for folder, dirs, names in os.walk(self.root):
            rel = os.path.relpath(folder, self.root)
            dirs[:] = [d for d in dirs if os.path.normpath(os.path.join(rel, d)) not in PASSING]
            for name in dirs + names:
                path, at = os.path.join(folder, name), os.path.normpath(os.path.join(rel, name))
                if at in PASSING or name.endswith("-") or name == "__pycache__" or name.endswith(".pyc"):
                    continue
                info = os.lstat(path)
                what = (stat.filemode(info.st_mode), info.st_uid, info.st_gid)
                if stat.S_ISLNK(info.st_mode):
                    what += (os.readlink(path),)
                elif stat.S_ISREG(info.st_mode):
                    with open(path, "rb") as f:
                        what += (hashlib.sha256(f.read()).hexdigest(),)
                found[at] = what
        return found

    def lab_root(self, folder, sources):
        """Makes an install root for the lab (`lab up --tools`) of nothing but the files of installed packages of
        these sources, and the accounts; returns it."""
        names = " ".join(name for name, (_, source) in self.installed().items() if source in sources)
        owned = [line for line in self.run(f"dpkg-query -L {names}").splitlines() if line.startswith("/")]
        os.mkdir(folder)
        for name in sorted(set(owned + ["/etc/passwd", "/etc/group"])):
            path, to = self.path(name), os.path.join(folder, name.lstrip("/"))
            if os.path.isdir(path) and not os.path.islink(path):
                os.makedirs(to, exist_ok=True)
            elif os.path.lexists(path):
                os.makedirs(os.path.dirname(to), exist_ok=True)
                shutil.copy2(path, to, follow_symlinks=False)
        return folder


def newer(deb, version, folder):
    """The package as it would be in a later version, only the version changed, in itself and in what it depends on;
    returns its file."""
    work = os.path.join(folder, "newer")
    subprocess.run(["dpkg-deb", "-R", deb, work], check=True)
    control = os.path.join(work, "DEBIAN/control")
    was = field(deb, "Version")
    with open(control, encoding="utf-8") as f:
        text = f.read().replace(was, version)
    with open(control, "w", encoding="utf-8") as f:
        f.write(text)
    to = os.path.join(folder, f"{field(deb, 'Package')}_{version}_amd64.deb")
    subprocess.run(["dpkg-deb", "-b", "-Znone", work, to], stdout=subprocess.DEVNULL, check=True)
    shutil.rmtree(work)
    return to
