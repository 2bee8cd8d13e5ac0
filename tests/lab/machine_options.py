"""The options that say what a host is made of, as `up` and exact mode take them."""

import machine


def arguments(parser):
    d = machine.Options()
    parser.add_argument("--mem", type=int, default=d.mem, metavar="MIB", help=f"host memory, default {d.mem}")
    parser.add_argument("--dom0-mem", type=int, default=d.dom0_mem, metavar="MIB",
                        help=f"default {d.dom0_mem}")
    parser.add_argument("--cpus", type=int, default=d.cpus, metavar="N", help="CPUs of a host, default 1")
    parser.add_argument("--xen", default=d.xen, metavar="release|debug|DIR",
                        help="hypervisor; DIR has `xen` in it")
    parser.add_argument("--tools", default=d.tools, metavar="DIR",
                        help="another install root than xen-build's")


def options(args, exact=False):
    return machine.Options(args.mem, args.dom0_mem, args.cpus, args.xen, args.tools, exact)
