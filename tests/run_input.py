"""`python - ...`, for a process that was forked: the program comes from the standard input."""

import sys

if __name__ == "__main__":
    exec(sys.stdin.read())
