"""`lab guest`, `lab guest-image`."""

import guests
import running


def guest(parser, words):
    parser.add_argument("host")
    parser.add_argument("name")
    parser.add_argument("--type", choices=("pvh", "hvm"), default="pvh")
    parser.add_argument("--disk", type=int, default=32, metavar="MIB", help="of each of an HVM guest's two disks")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB")
    parser.add_argument("--vcpus", type=int, default=1, metavar="N")
    parser.add_argument("--payload", metavar="DIR", help="copied to /payload; init runs /payload/run")
    parser.add_argument("--cfg", action="append", default=[], metavar="LINE", help="a line of xl.cfg")
    parser.add_argument("--paused", action="store_true", help="build it, leave it paused")
    parser.add_argument("--only-prepare", action="store_true",
                        help="start nothing: put its files on a host that an HVM guest is to be moved to")
    args = parser.parse_args(words)
    disk = args.disk if args.type == "hvm" else None
    if args.only_prepare:
        guests.prepare(running.get(args.host), args.name, args.payload, disk)
        return 0
    guests.start(running.get(args.host), args.name, args.memory, args.vcpus, args.payload, args.cfg,
                 args.paused, disk)
    return 0


def guest_image(parser, words):
    parser.add_argument("out", help="file to write")
    parser.add_argument("--payload", metavar="DIR", help="copied to /payload; init runs /payload/run")
    args = parser.parse_args(words)
    guests.write_image(args.payload, args.out)
    return 0
