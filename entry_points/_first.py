"""What has to happen before anything is imported.

Makes the packages of this checkout importable, so that no environment needs them installed. And
has threads that wait for each other sleep rather than spin: with spinning, a second busy process
on the machine makes the many small operations of a small model a hundred times slower.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "C2C")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
