"""Matrices: what a bench run measures. A TOML file; its keys are described in tests/bench/README.md."""

import os
import re
import tomllib

DEFAULTS = {"mode": "exact", "types": ["pvh"], "workloads": ["idle"], "memory": 256, "vcpus": 2, "weight": 512,
            "undisturbed_s": 10, "settle_s": 4, "rate": 4000, "quota": 25, "tick_ms": 20, "receive": "", "title": "", "host": [], "cfg": [],
            "warm_s": {},  # {workload: seconds}
            # the report's, and of no influence on figures
            "about": [], "not_shown": [], "reference": None}
NEEDED = ("name", "link", "modes")
WORKLOADS = ("idle", "memwitness", "fio", "memtester")
TYPES = ("pvh", "hvm")
# what a cell's figures depend on, of the matrix
INPUTS = ("memory", "vcpus", "link", "weight", "undisturbed_s", "settle_s", "rate", "quota", "tick_ms", "host", "cfg")


class MatrixError(Exception):
    pass


class Cell:
    """One guest, one workload, moved in one way."""

    def __init__(self, kind, workload, mode, way):
        self.kind, self.workload, self.mode, self.way = kind, workload, mode, way
        self.name = f"{kind}.{workload}.{mode}"

    @property
    def postcopy(self):
        return "--postcopy" in self.way["options"].split()


class Matrix:
    def __init__(self, values, path="matrix"):
        missing = [key for key in NEEDED if not values.get(key)]
        unknown = sorted(set(values) - set(DEFAULTS) - set(NEEDED))
        if missing or unknown:
            raise MatrixError(f"{path}: missing {missing}, unknown {unknown}")
        self.values = DEFAULTS | values
        for key, known in (("types", TYPES), ("workloads", WORKLOADS)):
            wrong = [word for word in self.values[key] if word not in known]
            if wrong:
                raise MatrixError(f"{path}: {key}: {wrong}: one of {', '.join(known)} is needed")
        if self.values["mode"] != "exact":
            raise MatrixError(f"{path}: mode {self.values['mode']!r}: exact is what there is")
        for name, mode in self.values["modes"].items():
            odd = sorted(set(mode) - {"title", "options", "receive", "library"})
            if odd or not re.fullmatch(r"[a-z0-9-]+", name):
                raise MatrixError(f"{path}: modes.{name}: {odd or 'its name: small letters, digits and -'}")
        self.name, self.path = self.values["name"], path

    def __getitem__(self, key):
        return self.values[key]

    def ways(self):
        """{mode: its title, options and all words for receive}"""
        return {name: {"title": mode.get("title", name), "options": mode.get("options", ""), "library": mode.get("library", ""),
                       "receive": f"{self['receive']} {mode.get('receive', '')}".strip()}
                for name, mode in self["modes"].items()}

    def cells(self, only=""):
        """Of each type in turn, so that a run that is interrupted has whole rows."""
        return [cell for kind in self["types"] for workload in self["workloads"] for mode, way in self.ways().items()
                for cell in [Cell(kind, workload, mode, way)] if re.search(only, cell.name)]

    def warm_s(self, cell):
        return self["warm_s"].get(cell.workload, 0)

    def inputs(self, cell):
        """All of the matrix that this cell's figures depend on, besides what its scripts say."""
        return {key: self[key] for key in INPUTS} | {"type": cell.kind, "workload": cell.workload, "way": {
            key: value for key, value in cell.way.items() if key != "title"}}


def load(path):
    with open(path, "rb") as f:
        try:
            return Matrix(tomllib.load(f), os.path.basename(path))
        except tomllib.TOMLDecodeError as e:
            raise MatrixError(f"{path}: {e}") from None
