import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m1

if __name__ == "__main__":  # workers import this file again
    start(m1.PARAMETERS, m1.run, m1.__doc__)
