"""`lab down`, and `lab with`, which ends in it."""

import os
import subprocess

import running


def down(parser, words):
    parser.parse_args(words)
    running.down()
    return 0


def with_(parser, words):
    if not words or words[0] != "--" or len(words) < 2:
        parser.error("usage: lab with -- COMMAND ...")
    child = subprocess.Popen(words[1:], env=os.environ | {"LAB_OWNER_PID": str(os.getpid())})
    try:
        status = child.wait()
    except BaseException:
        # the terminal's ^C has reached the child as well; a plain SIGTERM to us has not
        child.terminate()
        child.wait()
        raise
    finally:
        running.down()
    return 128 - status if status < 0 else status
