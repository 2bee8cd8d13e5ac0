"""`lab console`."""

import sys

import consoles
import running


def console(parser, words):
    parser.add_argument("host")
    parser.add_argument("name")
    parser.add_argument("--follow", action="store_true", help="go on as it grows, until interrupted")
    parser.add_argument("--until", metavar="TEXT", help="follow, end with 0 after a line that contains TEXT")
    parser.add_argument("--timeout", type=float, metavar="S",
                        help="with --follow or --until: exit with 124 after S")
    args = parser.parse_args(words)
    host = running.get(args.host)
    if args.follow or args.until:
        return consoles.follow(host, args.name, args.until, args.timeout)
    sys.stdout.write(consoles.text(host, args.name))
    return 0
