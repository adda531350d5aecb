import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import demo_pair

if __name__ == "__main__":  # workers import this file again
    start(demo_pair.PARAMETERS, demo_pair.run, demo_pair.__doc__)
