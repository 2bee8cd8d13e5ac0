"""`lab up`."""

import hosts
import machine_options


def up(parser, words):
    parser.add_argument("--hosts", type=int, default=1, metavar="N")
    machine_options.arguments(parser)
    parser.add_argument("--host", action="append", default=[], metavar="NAME:OPTION=VALUE",
                        help="one of the options above for one host only: --host b:xen=stock, --host b:xen-args=hap=0")
    args = parser.parse_args(words)
    for host in hosts.up(machine_options.per_host(parser, args, args.hosts)):
        print(f"{host.name} {host.address} serial {host.serial}")
    return 0
