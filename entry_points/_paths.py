"""Makes the packages of this checkout importable, so that no environment needs them installed."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "C2C")]
