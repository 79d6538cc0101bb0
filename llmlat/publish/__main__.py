"""Publishes a dataset: `python -m llmlat.publish DATASET`; with --verify, checks one that was published."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llmlat.errors import DatasetError, LlmlatError
from llmlat.publish import Publishing, Verified, publish, verify
from llmlat.publish.folder import DEFAULT_PARENT
from llmlat.publish.licences import DEFAULT, LICENCES
from llmlat.report.wording import count, counted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0, or 1 where it cannot be published or is not what was published. Wrong usage exits with 2.
    """
    options = parser().parse_args(arguments)
    try:
        if options.verify:
            _say(options.folder, verify(_existing(options.folder)))
        else:
            how = Publishing(options.title, options.licence, options.incomplete, options.with_paths)
            folder, verified = publish(_existing(options.folder), options.to, how)
            _say(folder, verified)
            print(f"To verify   python -m llmlat.publish --verify {_shown(folder)}")
            print(f"To fit      python -m llmlat dataset={_shown(folder)}")
    except LlmlatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m llmlat.publish",
        description="Write a dataset as a folder that stands on its own: parquet, a dataset card, checksums.",
    )
    made.add_argument("folder", type=Path, metavar="DATASET", help="such as outputs/datasets/<key>")
    made.add_argument(
        "--verify", action="store_true", help="check a folder that was published, and write nothing"
    )
    made.add_argument(
        "--to",
        type=Path,
        default=DEFAULT_PARENT,
        metavar="FOLDER",
        help="where to make the folder <key> (default: %(default)s)",
    )
    made.add_argument(
        "--licence",
        "--license",
        choices=LICENCES,
        default=DEFAULT,
        metavar="NAME",
        help=f"{', '.join(LICENCES)} (default: %(default)s)",
    )
    made.add_argument("--title", help="the card's heading (default: made of the model and the device)")
    made.add_argument(
        "--incomplete",
        action="store_true",
        help="publish a measurement that is not at its end, marked as that",
    )
    made.add_argument(
        "--with-paths", action="store_true", help="publish although the key is made of a path of this machine"
    )
    return made


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name a dataset's, under outputs/datasets/.")
    return folder


def _say(folder: Path, verified: Verified) -> None:
    incomplete = "" if verified.is_complete else ", INCOMPLETE"
    print(
        f"{_shown(folder)}: {counted(verified.n_files, 'file')} as published; key, columns and counts are "
        f"right: {count(verified.n_rows)} rows of {counted(verified.n_requests, 'request')}{incomplete}."
    )
    print(f"Fingerprint {verified.fingerprint} (the SHA-256 of SHA256SUMS)")


def _shown(folder: Path) -> Path:
    """Return a path as it is shortest from here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


if __name__ == "__main__":
    sys.exit(main())
