"""`bench run`: measures the cells of a matrix that are not measured yet."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

from harness import measure, programs, store
from harness.cell import Host, scripts
from exactmove import Move
from figures import versions
from lab import Failure

FORMAT = 1  # of a cell in a result file


class Run:
    def __init__(self, matrix, out, jobs, anew=False):
        self.matrix, self.out, self.jobs, self.anew = matrix, out, jobs, anew
        self.hashes, self.versions = programs.hashes(), versions()
        self.failed, self.lock = [], threading.Lock()

    def key(self, cell):
        """Cells of the same key have the same figures: exact mode, the same programs."""
        versions_ = {name: value for name, value in self.versions.items() if name != "machine"}
        return store.digest([FORMAT, self.matrix.inputs(cell), scripts(self.matrix, cell), self.hashes, versions_])

    def say(self, text):
        with self.lock:
            print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)

    def cell(self, host, cell):
        begun = time.monotonic()
        try:
            figures, more = measure.figures(host.move(cell), cell, self.matrix)
        except (Failure, measure.Wrong) as e:
            self.failed.append(cell.name)
            self.say(f"FAILED {cell.name}: {str(e)[-1500:]}")
            with self.lock:
                store.append(self.out, {"cell": cell.name, "key": self.key(cell), "failed": str(e)[-500:]})
            return
        real = round(time.monotonic() - begun, 1)
        self.keep(cell, figures, more, real)
        self.say(f"{cell.name}: suspended {figures['suspend_s']} s, gap {figures['gap_s']} s, loss {figures['loss_s']} s, total "
                 f"{figures['total_s']} s ({real:.0f} s real)")

    def keep(self, cell, figures, more, real):
        with self.lock:
            store.append(self.out, {"cell": cell.name, "key": self.key(cell), "type": cell.kind, "workload": cell.workload,
                                    "mode": cell.mode, "figures": figures, "more": more, "real_s": real})

    def again(self, only=""):
        """Figures of known cells anew, from the logs of their moves, when how they are computed has changed."""
        known, _ = store.read(self.out)
        for cell in self.matrix.cells(only):
            path = os.path.join(programs.TOP, "build/exact-logs", f"bench-{self.matrix.name}-{cell.kind}", cell.name + ".log")
            before = known.get(cell.name)
            if not before or before["key"] != self.key(cell) or not os.path.exists(path):
                self.say(f"{cell.name}: no log of what is known")
                continue
            move = Move(cell.name, None, path, True)
            with open(path, encoding="utf-8", errors="replace") as f:
                move.log = f.read()
            try:
                self.keep(cell, *measure.figures(move, cell, self.matrix), before["real_s"])
            except (Failure, measure.Wrong) as e:
                self.say(f"{cell.name}: {e}")

    def meta(self, metas):
        """What this run is of, unless the file says so last."""
        found = {"matrix": self.matrix.name, "values": self.matrix.values, "command": sys.argv, "versions": self.versions,
                 "hashes": self.hashes, "commit": commit()}
        if not metas or metas[-1]["values"] != found["values"] or metas[-1]["commit"] != found["commit"]:
            store.append(self.out, {"meta": found})

    def host(self, kind, cells, pool):
        """Prepares the host of a type, then its cells follow."""
        host = Host(self.matrix, kind)
        begun = time.monotonic()
        try:
            host.__enter__()
        except (subprocess.CalledProcessError, OSError) as e:
            self.failed += [cell.name for cell in cells]
            self.say(f"FAILED {kind}: no host: {e}")
            return None, []
        self.say(f"{kind}: host prepared ({time.monotonic() - begun:.0f} s real)")
        return host, [pool.submit(self.cell, host, cell) for cell in cells]

    def all(self, only=""):
        """Returns the names of cells that failed."""
        known, metas = store.read(self.out)
        cells = self.matrix.cells(only)
        todo = [cell for cell in cells if self.anew or known.get(cell.name, {}).get("key") != self.key(cell)]
        self.say(f"{self.matrix.name}: {len(cells)} cells, {len(cells) - len(todo)} of them known")
        self.meta(metas)
        if not todo:
            return []
        signal.signal(signal.SIGTERM, ended)
        signal.signal(signal.SIGINT, ended)
        kinds = list(dict.fromkeys(cell.kind for cell in todo))
        hosts = []
        try:
            with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
                preparing = [pool.submit(self.host, kind, [cell for cell in todo if cell.kind == kind], pool) for kind in kinds]
                moves = []
                for future in preparing:
                    host, more = future.result()
                    hosts += [host] if host else []
                    moves += more
                for move in moves:
                    move.result()
        finally:
            for host in hosts:
                host.__exit__(None, None, None)
        return self.failed


def ended(*_):
    """At once: what is measured is on disk, and threads would wait for their moves."""
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", encoding="ascii") as f:
            for pid in f.read().split():
                os.kill(int(pid), signal.SIGTERM)
    os._exit(130)


def commit():
    git = subprocess.run(["git", "-C", programs.TOP, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True,
                         text=True, check=False)
    return git.stdout.strip()
