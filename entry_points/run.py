"""Runs a milestone: python entry_points/run.py NAME [--parameter value ...].

The links beside it (m2.py and so on) are the paths from before there was this one; under such a
name it runs that milestone. A new milestone needs none.
"""

import os
import sys
from pathlib import Path

# Before anything is imported: the packages of this checkout, so that no environment needs them
# installed; and threads that wait for each other sleep rather than spin: with spinning, a second
# busy process on the machine makes the many small operations of a small model a hundred times
# slower.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "C2C")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if __name__ == "__main__":  # workers import this file again
    from latentwire.run_entry_point import main

    main(Path(__file__).stem, sys.argv[1:])
