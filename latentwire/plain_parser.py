"""A command line whose errors do to a terminal nothing but show text."""

import argparse
from typing import NoReturn

from c2c.errors import printable, shortened


class PlainParser(argparse.ArgumentParser):
    """An argument parser that quotes what was typed as text, and not at any length."""

    def error(self, message: str) -> NoReturn:
        super().error(shortened(printable(message), 500))
