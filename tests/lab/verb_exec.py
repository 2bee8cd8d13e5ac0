"""`lab exec`."""

import os
import sys

import agentclient
import running


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
    host = running.get(args.host)
    stdin = None if args.n else agentclient.stdin_of_caller()
    status = agentclient.run(host.port, command, stdin, 1, 2, args.timeout)
    # the thread that reads stdin may still wait for it
    sys.stdout.flush()
    os._exit(status)
