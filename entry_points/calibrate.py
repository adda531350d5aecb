import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import calibrate

if __name__ == "__main__":  # workers import this file again
    start(calibrate.PARAMETERS, calibrate.run, calibrate.__doc__)
