"""`lab up`."""

import hosts
import machine_options


def up(parser, words):
    parser.add_argument("--hosts", type=int, default=1, metavar="N")
    machine_options.arguments(parser)
    args = parser.parse_args(words)
    for host in hosts.up(machine_options.options(args), args.hosts):
        print(f"{host.name} {host.address} serial {host.serial}")
    return 0
