"""The options that say what a host is made of, as `up` and exact mode take them."""

import string

import machine


def arguments(parser):
    d = machine.Options()
    parser.add_argument("--mem", type=int, default=d.mem, metavar="MIB", help=f"host memory, default {d.mem}")
    parser.add_argument("--dom0-mem", type=int, default=d.dom0_mem, metavar="MIB",
                        help=f"default {d.dom0_mem}")
    parser.add_argument("--cpus", type=int, default=d.cpus, metavar="N", help="CPUs of a host, default 1")
    parser.add_argument("--xen", default=d.xen, metavar="release|debug|stock|DIR",
                        help="hypervisor; stock: Debian's own, without MEM_PAGING; DIR has `xen` in it")
    parser.add_argument("--xen-args", default=d.xen_args, metavar="WORDS", help="more of Xen's command line")
    parser.add_argument("--tools", default=d.tools, metavar="DIR",
                        help="another install root than xen-build's")


def exact_arguments(parser):
    arguments(parser)
    parser.add_argument("--ns", type=int, choices=[1, 2, 4, 8], default=4,
                        help="virtual ns that an instruction takes, default 4; of a snapshot that has a name only "
                        "exact-prepare says it")


def options(args):
    return machine.Options(args.mem, args.dom0_mem, args.cpus, args.xen, args.xen_args, args.tools,
                           getattr(args, "ns", False))


def per_host(parser, args, count):
    """Options of each of `count` hosts: those of all, with what --host says of single ones put over them."""
    each = [options(args)] * count
    for word in args.host:
        name, _, setting = word.partition(":")
        key, equals, value = setting.partition("=")
        field = key.replace("-", "_")
        index = string.ascii_lowercase.find(name) if len(name) == 1 else -1
        if not equals or not 0 <= index < count or field not in machine.Options._fields or field == "exact":
            parser.error(f"--host {word}: NAME:OPTION=VALUE, NAME one of the {count} hosts, OPTION as above without --")
        try:
            each[index] = each[index]._replace(**{field: type(getattr(each[index], field))(value)})
        except ValueError as e:
            parser.error(f"--host {word}: {e}")
    return each
