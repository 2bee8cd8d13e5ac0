"""The command line: one function per verb, one table."""

import argparse
import os
import signal
import subprocess
import sys

import agentclient
import copying
import evidence
import exact
import filewait
import guests
import hosts
import links
import machine
from paths import LabError


def _options(args, exact=False):
    return machine.Options(args.mem, args.dom0_mem, args.cpus, args.xen, args.tools, exact)


def _machine_arguments(parser):
    d = machine.Options()
    parser.add_argument("--mem", type=int, default=d.mem, metavar="MIB", help=f"host memory, default {d.mem}")
    parser.add_argument("--dom0-mem", type=int, default=d.dom0_mem, metavar="MIB",
                        help=f"default {d.dom0_mem}")
    parser.add_argument("--cpus", type=int, default=d.cpus, metavar="N", help="CPUs of a host, default 1")
    parser.add_argument("--xen", default=d.xen, metavar="release|debug|DIR",
                        help="hypervisor; DIR has `xen` in it")
    parser.add_argument("--tools", default=d.tools, metavar="DIR",
                        help="another install root than xen-build's")


def up(parser, words):
    parser.add_argument("--hosts", type=int, default=1, metavar="N")
    _machine_arguments(parser)
    args = parser.parse_args(words)
    for host in hosts.up(_options(args), args.hosts):
        print(f"{host.name} {host.address} serial {host.serial}")
    return 0


def down(parser, words):
    parser.parse_args(words)
    hosts.down()
    return 0


def exec_(parser, words):
    parser.add_argument("host")
    parser.add_argument("--timeout", type=float, metavar="S",
                        help="end the command after S seconds, exit with 124")
    parser.add_argument("-n", action="store_true", help="no stdin")
    if "--" not in words:
        parser.error("-- COMMAND is missing")
    at = words.index("--")
    args = parser.parse_args(words[:at])
    command = words[at + 1:]
    if not command:
        parser.error("no command after --")
    host = hosts.get(args.host)
    stdin = None if args.n else agentclient.stdin_of_caller()
    status = agentclient.run(host.port, command, stdin, 1, 2, args.timeout)
    # the thread that reads stdin may still wait for it
    sys.stdout.flush()
    os._exit(status)


def put(parser, words):
    for name in ("host", "local", "remote"):
        parser.add_argument(name)
    args = parser.parse_args(words)
    copying.put(hosts.get(args.host), args.local, args.remote)
    return 0


def get(parser, words):
    for name in ("host", "remote", "local"):
        parser.add_argument(name)
    args = parser.parse_args(words)
    copying.get(hosts.get(args.host), args.remote, args.local)
    return 0


def guest(parser, words):
    parser.add_argument("host")
    parser.add_argument("name")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB")
    parser.add_argument("--vcpus", type=int, default=1, metavar="N")
    parser.add_argument("--payload", metavar="DIR", help="copied to /payload; init runs /payload/run")
    parser.add_argument("--cfg", action="append", default=[], metavar="LINE", help="a line of xl.cfg")
    parser.add_argument("--paused", action="store_true", help="build it, leave it paused")
    args = parser.parse_args(words)
    guests.start(hosts.get(args.host), args.name, args.memory, args.vcpus, args.payload, args.cfg,
                 args.paused)
    return 0


def guest_image(parser, words):
    parser.add_argument("out", help="file to write")
    parser.add_argument("--payload", metavar="DIR", help="copied to /payload; init runs /payload/run")
    args = parser.parse_args(words)
    guests.write_image(args.payload, args.out)
    return 0


def console(parser, words):
    parser.add_argument("host")
    parser.add_argument("name")
    parser.add_argument("--follow", action="store_true", help="go on as it grows, until interrupted")
    parser.add_argument("--until", metavar="TEXT", help="follow, end with 0 after a line that contains TEXT")
    parser.add_argument("--timeout", type=float, metavar="S",
                        help="with --follow or --until: exit with 124 after S")
    args = parser.parse_args(words)
    host = hosts.get(args.host)
    if args.follow or args.until:
        return guests.follow(host, args.name, args.until, args.timeout)
    sys.stdout.write(guests.console(host, args.name))
    return 0


def link(parser, words):
    parser.add_argument("host")
    parser.add_argument("--rate", default="", help="as tc writes it: 200mbit")
    parser.add_argument("--delay", default="", help="as tc writes it: 1ms")
    parser.add_argument("--clear", action="store_true")
    args = parser.parse_args(words)
    if args.clear == bool(args.rate or args.delay):
        parser.error("--rate and/or --delay, or --clear")
    sys.stdout.write(links.shape(hosts.get(args.host), args.rate, args.delay))
    return 0


def serial(parser, words):
    parser.add_argument("host")
    parser.add_argument("--wait", metavar="TEXT",
                        help="print the first line (from --offset) that contains TEXT")
    parser.add_argument("--offset", type=int, default=0, metavar="BYTES")
    parser.add_argument("--timeout", type=float, default=None, metavar="S")
    args = parser.parse_args(words)
    host = hosts.get(args.host)
    if args.wait is None:
        print(host.serial)
        return 0
    line = filewait.wait_line(host.serial, [args.wait], args.timeout, offset=args.offset)
    if line is None:
        return agentclient.TIMED_OUT
    print(line)
    return 0


def exact_(parser, words):
    parser.add_argument("snapshot",
                        help=f"a name given to exact-prepare, or {exact.BASE}: a host just booted")
    parser.add_argument("job", help="a folder with an executable `run`, or one file; runs in dom0 as root")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="real seconds, default 600")
    parser.add_argument("--log", metavar="FILE", help="the job's console goes there instead of stdout")
    _machine_arguments(parser)
    args = parser.parse_args(words)
    if not args.log:
        return exact.run(args.snapshot, args.job, _options(args, True), args.timeout)
    with open(args.log, "w", encoding="utf-8") as log:
        return exact.run(args.snapshot, args.job, _options(args, True), args.timeout, log)


def exact_prepare(parser, words):
    parser.add_argument("name")
    parser.add_argument("job")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="real seconds, default 600")
    _machine_arguments(parser)
    args = parser.parse_args(words)
    exact.prepare(args.name, args.job, _options(args, True), args.timeout)
    return 0


def save_state(parser, words):
    parser.add_argument("dir")
    args = parser.parse_args(words)
    there = hosts.all_hosts()
    if not there:
        raise LabError("no lab is up: nothing to save")
    evidence.save(there, args.dir)
    print(args.dir)
    return 0


def with_(parser, words):
    if not words or words[0] != "--" or len(words) < 2:
        parser.error("usage: lab with -- COMMAND ...")
    child = subprocess.Popen(words[1:], env=os.environ | {"LAB_OWNER_PID": str(os.getpid())})
    try:
        status = child.wait()
    except BaseException:
        # the terminal's ^C has reached the child as well; a plain SIGTERM to us has not
        child.terminate()
        child.wait()
        raise
    finally:
        hosts.down()
    return 128 - status if status < 0 else status


VERBS = {
    "up": (up, "start hosts from their snapshot, which is made on first use"),
    "down": (down, "end all hosts of this lab"),
    "exec": (exec_, "HOST [--timeout S] -- CMD ...: run a command in dom0"),
    "put": (put, "HOST LOCAL REMOTE: copy a file or folder into dom0"),
    "get": (get, "HOST REMOTE LOCAL: copy a file or folder out of dom0"),
    "guest": (guest, "HOST NAME: start a PVH guest"),
    "guest-image": (guest_image, "OUT [--payload DIR]: a guest's initramfs, for jobs of exact mode"),
    "console": (console, "HOST NAME: a guest's console log"),
    "link": (link, "HOST --rate R --delay D | --clear: shape what the host sends on the link"),
    "serial": (serial, "HOST: path of the stamped serial log"),
    "save-state": (save_state, "DIR: keep all that tells why a host or guest hangs"),
    "exact": (exact_, "SNAPSHOT JOB: run a job under the instruction counter; same job, same bytes"),
    "exact-prepare": (exact_prepare, "NAME JOB: run a job, save the host as it is then as NAME"),
    "with": (with_, "-- CMD ...: run CMD, then `lab down`, whatever happens"),
}


def usage(stream):
    print("usage: lab VERB ...   (state: $LAB_DIR, default build/lab/run; `lab VERB --help` for more)",
          file=stream)
    for name, (_, text) in VERBS.items():
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
    function, text = VERBS[words[0]]
    try:
        return function(argparse.ArgumentParser(prog=f"lab {words[0]}", description=text), words[1:])
    except LabError as e:
        print(f"lab {words[0]}: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 141
    except _Interrupted as e:
        return 128 + e.args[0]
