import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import main

if __name__ == "__main__":  # workers import this file again
    start(main.PARAMETERS, main.run, main.__doc__)
