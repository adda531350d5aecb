"""`python -c CODE`, for a process that was forked and has a script instead."""

import sys

if __name__ == "__main__":  # and not in the processes that it starts, which import it again
    exec(sys.argv[2])
