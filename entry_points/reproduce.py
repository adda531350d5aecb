import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import reproduce

if __name__ == "__main__":  # workers import this file again
    start(reproduce.PARAMETERS, reproduce.run, reproduce.__doc__)
