"""How whoever computes answers tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int], object]  # told how many (example, condition) pairs have just been done
