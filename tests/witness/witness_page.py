"""Contents of a memwitness page, written anew from README.md: what the tests compare the C program with."""
import struct

BYTES = 4096
MASK = (1 << 64) - 1


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def contents(number, generation, seed):
    state = mix((seed + mix((number + mix(generation + 1)) & MASK)) & MASK)
    words = [number, generation, seed]
    for _ in range(508):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        words.append(state)
    checksum = (0x77697473 + sum(words)) & MASK
    return struct.pack("<512Q", *words, checksum)


def header(page):
    """(number, generation, seed)"""
    return struct.unpack_from("<3Q", page)
