"""`lab link`."""

import sys

import links
import running


def link(parser, words):
    parser.add_argument("host")
    parser.add_argument("--rate", default="", help="as tc writes it: 200mbit")
    parser.add_argument("--delay", default="", help="as tc writes it: 1ms")
    parser.add_argument("--clear", action="store_true")
    args = parser.parse_args(words)
    if args.clear == bool(args.rate or args.delay):
        parser.error("--rate and/or --delay, or --clear")
    sys.stdout.write(links.shape(running.get(args.host), args.rate, args.delay))
    return 0
