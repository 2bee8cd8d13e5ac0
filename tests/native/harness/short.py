"""Is everything right? No figure of it means anything: other things run on the machine."""

import os
import signal
import sys
import time

from .link import Link, floor
from .processes import Failed
from .session import Session

MIB = 64


def _kill_pager(session):
    """The process that installs pages, in the middle of it; the keeper starts another."""
    session.await_active()
    time.sleep(0.2)  # of a push of a second: whatever it is doing then
    os.kill(session.status()["processes"]["pager"], signal.SIGKILL)


def _say(name, row):
    touch = row["touch_us"]
    print(f"ok {name}: {row['touched']} pages touched, {touch['count']} had to wait, {row['asked']} asked for, "
          f"mean {touch['mean']:.0f} us, p99 {touch['p99']:.0f} us", flush=True)
    return row


def run(_):
    with Link("veth") as link:
        one = floor(link, ms=500)["round_trip_us"]
        print(f"ok floor: {one['count']} round trips, mean {one['mean']:.0f} us", flush=True)
        for workload in ("random", "seq", "streams16"):
            for vcpus in (1, 4, 16):
                _say(f"{workload}, {vcpus} vcpus", Session(link, MIB, vcpus, workload, zero=10, serve=["--max-push", "256"]).run())
        row = Session(link, MIB, 4, "zipf", touches=20000, zero=10, receive=["--push", "on-fault", "--verify"]).run()
        _say("zipf, hashes verified", row)
        row = Session(link, MIB, 4, "random", rate=50000, serve=["--max-push", "64"]).run(_kill_pager)
        _say("the pager killed", row)
        if row["pagers_died"] != 1:
            raise Failed(f"{row['pagers_died']} pagers died, not 1")
    print("all bytes right, every page there, none twice")
    sys.exit(0)
