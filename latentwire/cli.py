"""The command `latentwire`: small tools beside the MLproject entry points."""

import argparse
import sys
from pathlib import Path

from latentwire.channel.calibration import from_bytes
from latentwire.channel.describe import describe
from latentwire.channel.fields import PacketError
from latentwire.cluster.options import OPTIONS
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
    _add_submit(commands)
    options = parser.parse_args(arguments)
    about = f"{options.file}: " if "file" in options else ""
    try:
        options.run(options)
    except OSError as error:
        print(f"error: {error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except (PacketError, LatentWireError) as error:
        print(f"error: {about}{error}", file=sys.stderr)
        return 2
    return 0


def _add_submit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    submit = commands.add_parser("submit", help="run an entry point on a Slurm cluster")
    submit.add_argument("entry", help="the entry point: m0, m1, m2, m3, main, ...")
    submit.add_argument(
        *("-P", "--parameter"), dest="parameters", action="append", default=[], metavar="NAME=VALUE"
    )
    submit.add_argument("--config", type=Path, help="YAML file of the options below")
    for option in OPTIONS:
        flag = "--" + option.name.replace("_", "-")
        default = f" (default: {option.default or 'none'})"
        submit.add_argument(flag, dest=option.name, help=option.help + default)
    submit.add_argument(
        "--sbatch", action="append", default=[], help="a further option, as --sbatch=--qos=long"
    )
    submit.add_argument(
        "--then", choices=["m4"], help="submit this too, for when all tasks are done"
    )
    submit.add_argument("--dry-run", action="store_true", help="print the script, submit nothing")
    submit.set_defaults(run=_submit)


def _submit(options: argparse.Namespace) -> None:
    # Imported here: the milestones bring torch and transformers, which takes seconds.
    from latentwire.cluster.submit import submit

    submit(options)


def _packet(options: argparse.Namespace) -> None:
    print(describe(options.file.read_bytes()))


def _calibration(options: argparse.Namespace) -> None:
    found = from_bytes(options.file.read_bytes(), str(options.file))
    print(f"sha256: {found.hash}")
    for name, value in sorted(found.about.items()):
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
