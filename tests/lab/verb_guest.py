"""`lab guest`, `lab guest-files`."""

import guests
import running


def _arguments(parser):
    parser.add_argument("name")
    parser.add_argument("--type", choices=("pvh", "hvm"), default="pvh")
    parser.add_argument("--disk", type=int, default=32, metavar="MIB", help="of each of an HVM guest's two disks")
    parser.add_argument("--disks-on", metavar="HOST2", help="they are on that host, for all hosts, and reached by NBD")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB")
    parser.add_argument("--vcpus", type=int, default=1, metavar="N")
    parser.add_argument("--payload", metavar="DIR", help="copied to /payload; init runs /payload/run")
    parser.add_argument("--cfg", action="append", default=[], metavar="LINE", help="a line of xl.cfg")


def guest(parser, words):
    parser.add_argument("host")
    _arguments(parser)
    parser.add_argument("--paused", action="store_true", help="build it, leave it paused")
    parser.add_argument("--only-prepare", action="store_true",
                        help="start nothing: put its files on a host that an HVM guest is to be moved to")
    args = parser.parse_args(words)
    if args.disks_on and args.type != "hvm":
        parser.error("--disks-on: only HVM guests have disks")
    server = running.get(args.disks_on) if args.disks_on else None
    kind = guests.Kind(args.payload, args.disk if args.type == "hvm" else None, server)
    if args.only_prepare:
        guests.prepare(running.get(args.host), args.name, kind)
        return 0
    guests.start(running.get(args.host), args.name, args.memory, args.vcpus, args.cfg, args.paused, kind)
    return 0


def guest_files(parser, words):
    parser.add_argument("folder", help="where to write them")
    _arguments(parser)
    args = parser.parse_args(words)
    guests.write_files(args.folder, args.name, args.memory, args.vcpus, args.payload, args.cfg,
                       args.disk if args.type == "hvm" else None)
    return 0
