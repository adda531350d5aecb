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
    send = commands.add_parser("export", help="write a finished study to a file (docs/sharing.md)")
    send.add_argument("file", type=Path, help="the file to make, such as study.zip")
    send.add_argument("--experiment", help="whose runs (default: latentwire)")
    send.add_argument("--all", action="store_true", help="FAILED, KILLED and open runs too")
    send.set_defaults(run=_export)
    receive = commands.add_parser("import", help="write a study from a file into another store")
    receive.add_argument("file", type=Path, help="what `latentwire export` wrote")
    receive.add_argument("--experiment", help="where to (default: the study's own)")
    receive.set_defaults(run=_import)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except OSError as error:
        print(f"error: {options.file} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except (PacketError, LatentWireError) as error:
        print(f"error: {options.file}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; start it again to go on", file=sys.stderr)
        return 130  # 128 + SIGINT
    return 0


def _packet(options: argparse.Namespace) -> None:
    print(describe(options.file.read_bytes()))


def _calibration(options: argparse.Namespace) -> None:
    found = from_bytes(options.file.read_bytes(), str(options.file))
    print(f"sha256: {found.hash}")
    for name, value in sorted(found.about.items()):
        print(f"{name}: {value}")


def _export(options: argparse.Namespace) -> None:
    # Imported here: MLflow takes seconds, which the other commands need not wait for.
    from latentwire.tracking.store import open_store
    from latentwire.tracking.transfer import export_study

    store = open_store(options.experiment, create=False)
    done = export_study(store, options.file, options.all)
    print(f"{options.file}: {done.written} runs, {options.file.stat().st_size} bytes")


def _import(options: argparse.Namespace) -> None:
    from latentwire.tracking.archive import open_study
    from latentwire.tracking.store import open_store
    from latentwire.tracking.transfer import import_study

    with open_study(options.file) as study:
        done = import_study(open_store(options.experiment or study.experiment), study)
    print(f"{options.file}: {done.written} runs written, {done.held} were there already")


if __name__ == "__main__":
    sys.exit(main())
