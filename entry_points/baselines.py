import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import baselines

if __name__ == "__main__":  # workers import this file again
    start(baselines.PARAMETERS, baselines.run, baselines.__doc__)
