import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import published

if __name__ == "__main__":  # workers import this file again
    start(published.PARAMETERS, published.run, published.__doc__)
