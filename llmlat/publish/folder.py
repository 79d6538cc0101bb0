"""The folder of a publication: made beside its place, verified there, and moved into it as a whole.

It is a dataset like any other, so that `dataset=<folder>` fits on it::

    published/<key>/
        README.md          the dataset card
        SHA256SUMS         a line a file
        provenance.json    what the key is made of, what measured it, and what was left out
        latency.svg        the card's picture
        rows/ telemetry/ skipped/   as they were measured, byte for byte where they are parquet
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llmlat
from llmlat.dataset import Dataset
from llmlat.errors import DatasetError
from llmlat.files import write_atomically, write_json
from llmlat.publish.card import CARD, PICTURE, card
from llmlat.publish.checksums import SUMS, differences, read_sums, visible_files, write_sums
from llmlat.publish.figure import draw
from llmlat.publish.licences import DEFAULT
from llmlat.publish.scrub import Scrubber, places_in, scrubber_for
from llmlat.publish.verify import Verified, verify

PROVENANCE = "provenance.json"
DEFAULT_PARENT = Path("outputs/published")


@dataclass(frozen=True)
class Publishing:
    """What the publisher decides.

    Attributes
    ----------
    title : str or None
        The card's heading; made of the model and the device where it is None.
    licence : str
        One of `llmlat.publish.licences.LICENCES`.
    allows_incomplete : bool
        Whether a measurement that has not come to its end may be published, marked as that.
    shows_places : bool
        Whether a folder that the key is made of may be named.
    """

    title: str | None = None
    licence: str = DEFAULT
    allows_incomplete: bool = False
    shows_places: bool = False


def publish(
    folder: Path, parent: Path = DEFAULT_PARENT, how: Publishing | None = None
) -> tuple[Path, Verified]:
    """Write a dataset as a folder that stands on its own.

    Parameters
    ----------
    folder : Path
        The dataset's, named by its key.
    parent : Path
        Where the publication is made, in a folder named by the same key.
    how : Publishing, optional

    Returns
    -------
    folder : Path
        The publication's.
    verified : Verified
        What it holds.

    Raises
    ------
    DatasetError
        Where the dataset cannot be read, is incomplete or names a place, or something else is in the way.
    """
    how = how or Publishing()
    dataset = Dataset(folder.resolve())
    target = parent.resolve() / dataset.key
    _check_dataset(dataset, how)
    _check_target(target, dataset)
    try:
        with _scratch_beside(target) as scratch:
            made = scratch / dataset.key
            _write(made, dataset, how)
            verified = verify(made)
            _put(made, target, scratch)
    except OSError as error:
        raise DatasetError(
            f"cannot write {target}: {error.strerror or error}; make room, or choose another place with --to."
        ) from error
    return target, verified


def _check_dataset(dataset: Dataset, how: Publishing) -> None:
    provenance = dataset.provenance
    if not dataset.is_complete and not how.allows_incomplete:
        n_there, n_planned = len(dataset.accounted_requests()), provenance["n_requests"]
        planned = f"{n_planned}" if dataset.is_finished else f"at least {n_planned}"
        raise DatasetError(
            f"dataset={dataset.folder}: incomplete, {n_there} of {planned} requests are there; run the "
            "command that measures it to its end, or publish it as it is, marked, with --incomplete."
        )
    places = places_in(provenance["identity"])
    if places and not how.shows_places:
        raise DatasetError(
            f"dataset={dataset.folder}: {', '.join(places)} names a folder of this machine, and the key is "
            "made of it, so it cannot be left out; publish it nevertheless with --with-paths, or measure "
            "again with a relative path (model.name)."
        )


def _check_target(target: Path, dataset: Dataset) -> None:
    """Refuse to write over anything but an untouched publication of the same dataset."""
    if target == dataset.folder:
        raise DatasetError(f"{target}: this is the dataset itself; choose another place with --to.")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    remedy = "move it away, or choose another place with --to"
    try:
        changed = differences(target, read_sums(target))
    except DatasetError as error:
        raise DatasetError(f"{target}: something else is there; {remedy}.") from error
    if changed:
        raise DatasetError(f"{target}: changed since it was published ({changed[0]}); {remedy}.")


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    """Make a hidden folder on the target's own disk, so that moving from it is one step."""
    scratch = target.parent / f".publishing-{target.name}-{os.getpid()}"
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: Path, dataset: Dataset, how: Publishing) -> None:
    rows = dataset.read()
    scrubber = scrubber_for(dataset.provenance)
    not_published = _copy(dataset, folder, scrubber)
    provenance = _clean(dataset.provenance, scrubber)
    counted = rows[~rows["is_warmup"]]
    provenance["publication"] = {
        "licence": how.licence,
        "llmlat": llmlat.__version__,
        "n_rows": len(counted),
        "n_requests": int(counted["request_id"].nunique()),
        "left_out": sorted(scrubber.left_out),
        "files_left_out": not_published,
    }
    write_json(folder / PROVENANCE, provenance)
    write_atomically(folder / PICTURE, draw(rows).encode())
    write_atomically(folder / CARD, card(Dataset(folder), rows, how.title).encode())
    write_sums(folder)


def _copy(source: Dataset, to: Path, scrubber: Scrubber) -> list[str]:
    """Copy what a dataset holds beside its provenance; return the names of what is no part of one."""
    names = [name for name in visible_files(source.folder) if name != PROVENANCE]
    for name in filter(_is_parquet, names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.folder / name, to / name)
    for skipped in source.skipped():
        write_json(to / "skipped" / f"request-{skipped['request_id']:06d}.json", scrubber.scrub(skipped))
    return [name for name in names if not _is_parquet(name) and not name.startswith("skipped/")]


def _is_parquet(name: str) -> bool:
    return name.endswith(".parquet")


def _clean(provenance: dict[str, Any], scrubber: Scrubber) -> dict[str, Any]:
    """Return a provenance without what is private; what the key is the hash of stays as it is."""
    hashed = {name: provenance[name] for name in ("key", "identity")}
    others: dict[str, Any] = scrubber.scrub({n: provenance[n] for n in provenance if n not in hashed})
    return hashed | others


def _put(made: Path, target: Path, scratch: Path) -> None:
    """Move a publication to its place, and what was there out of it; the same one stays untouched."""
    if (target / SUMS).is_file():
        if read_sums(target) == read_sums(made):
            return
        target.rename(scratch / "replaced")
    elif target.exists():
        target.rmdir()
    made.rename(target)
