"""`lab serial`."""

import agentclient
import filewait
import running


def serial(parser, words):
    parser.add_argument("host")
    parser.add_argument("--wait", metavar="TEXT",
                        help="print the first line (from --offset) that contains TEXT")
    parser.add_argument("--offset", type=int, default=0, metavar="BYTES")
    parser.add_argument("--timeout", type=float, default=None, metavar="S")
    args = parser.parse_args(words)
    host = running.get(args.host)
    if args.wait is None:
        print(host.serial)
        return 0
    line = filewait.wait_line(host.serial, [args.wait], args.timeout, offset=args.offset)
    if line is None:
        return agentclient.TIMED_OUT
    print(line)
    return 0
