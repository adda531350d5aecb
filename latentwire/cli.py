"""The command `latentwire`: small tools beside the MLproject entry points."""

import argparse
import sys
from pathlib import Path

from latentwire.channel.calibration import from_bytes
from latentwire.channel.describe import describe
from latentwire.channel.fields import PacketError
from latentwire.errors import LatentWireError


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; its exit status. Bad input ends in one sentence and status 2."""
    parser = argparse.ArgumentParser(prog="latentwire", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    packet = commands.add_parser("packet", help="print what a packet says and where its bytes go")
    packet.add_argument("file", type=Path, help="a packet, as m1 logs them (packet.lwkv)")
    packet.set_defaults(run=_packet)
    calibration = commands.add_parser("calibration", help="print what a calibration was made from")
    calibration.add_argument("file", type=Path, help="a file that `calibrate` has logged")
    calibration.set_defaults(run=_calibration)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except OSError as error:
        print(f"error: {options.file} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except (PacketError, LatentWireError) as error:
        print(f"error: {options.file}: {error}", file=sys.stderr)
        return 2
    return 0


def _packet(options: argparse.Namespace) -> None:
    print(describe(options.file.read_bytes()))


def _calibration(options: argparse.Namespace) -> None:
    found = from_bytes(options.file.read_bytes(), str(options.file))
    print(f"sha256: {found.hash}")
    for name, value in sorted(found.about.items()):
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
