"""`lab save-state`."""

import evidence
import running
from paths import LabError


def save_state(parser, words):
    parser.add_argument("dir")
    args = parser.parse_args(words)
    there = running.all_hosts()
    if not there:
        raise LabError("no lab is up: nothing to save")
    evidence.save(there, args.dir)
    print(args.dir)
    return 0
