import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m3

if __name__ == "__main__":  # workers import this file again
    start(m3.PARAMETERS, m3.run, m3.__doc__)
