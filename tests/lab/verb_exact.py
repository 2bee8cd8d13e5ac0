"""`lab exact`, `lab exact-prepare`."""

import exact
import machine_options


def exact_(parser, words):
    parser.add_argument("snapshot",
                        help=f"a name given to exact-prepare, or {exact.BASE}: a host just booted")
    parser.add_argument("job", help="a folder with an executable `run`, or one file; runs in dom0 as root")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="real seconds, default 600")
    parser.add_argument("--log", metavar="FILE", help="the job's console goes there instead of stdout")
    machine_options.exact_arguments(parser)
    args = parser.parse_args(words)
    if not args.log:
        return exact.run(args.snapshot, args.job, machine_options.options(args), args.timeout)
    with open(args.log, "w", encoding="utf-8") as log:
        return exact.run(args.snapshot, args.job, machine_options.options(args), args.timeout, log)


def exact_prepare(parser, words):
    parser.add_argument("name")
    parser.add_argument("job")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="real seconds, default 600")
    machine_options.exact_arguments(parser)
    args = parser.parse_args(words)
    exact.prepare(args.name, args.job, machine_options.options(args), args.timeout)
    return 0
