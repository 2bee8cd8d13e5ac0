"""The command line: one table, a module for each verb or pair of verbs."""

import argparse
import importlib
import os
import signal
import sys

from paths import LabError

# name: (module, function, help)
VERBS = {
    "up": ("verb_up", "up", "start hosts from their snapshot, which is made on first use"),
    "down": ("verb_down", "down", "end all hosts of this lab"),
    "exec": ("verb_exec", "exec_", "HOST [--timeout S] -- CMD ...: run a command in dom0"),
    "put": ("verb_copy", "put", "HOST LOCAL REMOTE: copy a file or folder into dom0"),
    "get": ("verb_copy", "get", "HOST REMOTE LOCAL: copy a file or folder out of dom0"),
    "guest": ("verb_guest", "guest", "HOST NAME: start a PVH guest"),
    "guest-files": ("verb_guest", "guest_files", "FOLDER NAME [options of guest]: a guest's files, for exact mode"),
    "console": ("verb_console", "console", "HOST NAME: a guest's console log"),
    "link": ("verb_link", "link", "HOST --rate R --delay D | --clear: shape what the host sends on the link"),
    "serial": ("verb_serial", "serial", "HOST: path of the stamped serial log"),
    "save-state": ("verb_save_state", "save_state", "DIR: keep all that tells why a host or guest hangs"),
    "exact": ("verb_exact", "exact_", "SNAPSHOT JOB: run a job; same job, same bytes"),
    "exact-prepare": ("verb_exact", "exact_prepare", "NAME JOB: run a job, save the host then as NAME"),
    "with": ("verb_down", "with_", "-- CMD ...: run CMD, then `lab down`, whatever happens"),
}


def usage(stream):
    print("usage: lab VERB ...   (state: $LAB_DIR, default build/lab/run; `lab VERB --help` for more)",
          file=stream)
    for name, (_, _, text) in VERBS.items():
        print(f"  {name:<13} {text}", file=stream)


class _Interrupted(BaseException):
    pass


def _interrupt(number, _frame):
    raise _Interrupted(number)


def main(words):
    if not words or words[0] in ("help", "--help", "-h"):
        usage(sys.stdout)
        return 0
    if words[0] not in VERBS:
        usage(sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    module, function, text = VERBS[words[0]]
    try:
        # a verb loads only what it needs: tests run `exec` by the hundred
        verb = getattr(importlib.import_module(module), function)
        return verb(argparse.ArgumentParser(prog=f"lab {words[0]}", description=text), words[1:])
    except LabError as e:
        print(f"lab {words[0]}: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # the reader has gone; without this Python would try to write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except _Interrupted as e:
        return 128 + e.args[0]
