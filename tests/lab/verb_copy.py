"""`lab put`, `lab get`."""

import copying
import running


def put(parser, words):
    for name in ("host", "local", "remote"):
        parser.add_argument(name)
    args = parser.parse_args(words)
    copying.put(running.get(args.host), args.local, args.remote)
    return 0


def get(parser, words):
    for name in ("host", "remote", "local"):
        parser.add_argument(name)
    args = parser.parse_args(words)
    copying.get(running.get(args.host), args.remote, args.local)
    return 0
