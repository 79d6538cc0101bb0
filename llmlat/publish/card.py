"""The dataset card: README.md, as people read it and as the Hugging Face Hub does."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmlat.dataset import Dataset
from llmlat.publish import facts, tables
from llmlat.publish.checksums import visible_files
from llmlat.publish.licences import LICENCES
from llmlat.report.markdown import escaped
from llmlat.report.markdown import table as spelled
from llmlat.report.table import Table

CARD = "README.md"
PICTURE = "latency.svg"
SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
MORE = "n>10M"
BACKSLASH = "\\"


def card(published: Dataset, rows: pd.DataFrame, title: str | None) -> str:
    """Render the card of a publication from what is in its folder.

    Parameters
    ----------
    published : Dataset
        The publication; its provenance is free of what is private by now.
    rows : DataFrame
        Its token rows, warm-up included.
    title : str or None
        The heading; made of the model and the device where it is None.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escaped, "table": _table}
    return environment.get_template("card.md.j2").render(_context(published, rows, title))


def _context(published: Dataset, rows: pd.DataFrame, title: str | None) -> dict[str, Any]:
    provenance, skipped = published.provenance, published.skipped()
    identity, publication = provenance["identity"], provenance["publication"]
    names = [name for name in visible_files(published.folder) if name != CARD]
    return {
        "key": published.key,
        "title": title or facts.title(identity),
        "licence": publication["licence"],
        "licence_name": LICENCES[publication["licence"]].name,
        "licence_url": LICENCES[publication["licence"]].url,
        "size": next((words for limit, words in SIZES.items() if len(rows) < limit), MORE),
        "configs": _configs(names),
        "summary": facts.summary(identity, rows),
        "warnings": facts.warnings(provenance, rows, len(skipped), published.is_complete),
        "notices": facts.notices(provenance),
        "picture": PICTURE,
        "latencies": tables.latencies(rows),
        "n_warmup": int(rows["is_warmup"].sum()),
        "measured": facts.measured(identity, rows),
        "served": facts.served(provenance),
        "protocol": facts.protocol(identity),
        "telemetry": facts.telemetry(provenance),
        "machine": facts.machine(provenance),
        "sessions": tables.sessions(provenance, rows),
        "flags": tables.flags(rows),
        "skipped": tables.skipped(skipped),
        "columns": tables.columns(rows),
        "files": tables.files(published.folder, names),
        "requests_sha256": identity["requests_sha256"],
        "left_out": publication["left_out"],
        "files_left_out": publication["files_left_out"],
        "llmlat": publication["llmlat"],
    }


def _configs(names: list[str]) -> dict[str, list[str]]:
    """Return the tables as the Hub names them, each with the patterns of its files."""
    patterns = {
        "tokens": ["rows/request-*.parquet"],
        "warmup": ["rows/warmup-*.parquet"],
        "telemetry": ["telemetry/*.parquet"],
    }
    return {
        config: globs
        for config, globs in patterns.items()
        if any(Path(name).match(glob) for name in names for glob in globs)
    }


def _table(table: Table) -> str:
    """Render a table; what stands as code in its cells stays code, where nothing is markup."""
    return re.sub(r"\\`(.+?)\\`", lambda code: f"`{code[1].replace(BACKSLASH, '')}`", spelled(table))
