"""Figures of a demo or bench run: build/results/TARGET.jsonl for machines, a table for people.

One JSON object a figure: name, value, unit, n, min, max, and where it compares, baseline and ratio (value/baseline);
plus one object with versions, hashes and the command.
"""

import json
import os
import platform
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Figures:
    def __init__(self, target):
        self.target = target
        self.rows = []
        self.path = os.path.join(TOP, "build/results", target + ".jsonl")

    def add(self, name, values, unit, baseline=None):
        """values: one number or a list of repeated measurements (the value reported is their median)."""
        values = sorted(values if isinstance(values, list) else [values])
        value = values[len(values) // 2]
        row = {"name": name, "value": value, "unit": unit, "n": len(values), "min": values[0], "max": values[-1]}
        if baseline is not None:
            row["baseline"] = baseline
            row["ratio"] = round(value / baseline, 4) if baseline else None
        self.rows.append(row)

    def write(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w", encoding="utf-8") as f:
            for row in self.rows:
                f.write(json.dumps(row) + "\n")
            f.write(json.dumps({"meta": self.meta()}) + "\n")

    def meta(self):
        meta = {"target": self.target, "command": sys.argv, "versions": versions()}
        git = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=12"],
                             capture_output=True, text=True, check=False)
        meta["commit"] = git.stdout.strip()
        return meta

    def table(self):
        width = max((len(r["name"]) for r in self.rows), default=0)
        lines = []
        for r in self.rows:
            line = f"  {r['name']:<{width}}  {format_value(r['value']):>12} {r['unit']}"
            if r["n"] > 1:
                line += f"   (n={r['n']}, {format_value(r['min'])} to {format_value(r['max'])})"
            if r.get("ratio") is not None:
                line += f"   {r['ratio']}x of baseline {format_value(r['baseline'])}"
            lines.append(line)
        return "\n".join(lines)


def format_value(value):
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def versions():
    """Versions and hashes of everything a figure depends on."""
    found = {"machine": f"{os.cpu_count()} cpus, {platform.release()}", "python": platform.python_version()}
    xen = subprocess.run([os.path.join(TOP, "tests/xen/xen-build"), "versions"],
                         capture_output=True, text=True, check=False)
    found.update(line.split("=", 1) for line in xen.stdout.splitlines() if "=" in line)
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False)
    found["qemu"] = qemu.stdout.splitlines()[0] if qemu.stdout else "unknown"
    with open("/etc/debian_version", encoding="ascii") as f:
        found["debian"] = f.read().strip()
    return found
