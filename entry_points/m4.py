import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m4

if __name__ == "__main__":  # workers import this file again
    start(m4.PARAMETERS, m4.run, m4.__doc__)
