"""The licences that a dataset can be published under, by the identifiers that the Hugging Face Hub knows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence's name, and where its text is."""

    name: str
    url: str


_CREATIVE_COMMONS = "https://creativecommons.org"

LICENCES = {
    "cc-by-4.0": Licence("Creative Commons Attribution 4.0", f"{_CREATIVE_COMMONS}/licenses/by/4.0/"),
    "cc-by-sa-4.0": Licence(
        "Creative Commons Attribution-ShareAlike 4.0", f"{_CREATIVE_COMMONS}/licenses/by-sa/4.0/"
    ),
    "cc0-1.0": Licence("Creative Commons Zero 1.0", f"{_CREATIVE_COMMONS}/publicdomain/zero/1.0/"),
    "cdla-permissive-2.0": Licence(
        "Community Data License Agreement, Permissive 2.0", "https://cdla.dev/permissive-2-0/"
    ),
    "odbl": Licence("Open Database License 1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
    "odc-by": Licence("Open Data Commons Attribution 1.0", "https://opendatacommons.org/licenses/by/1-0/"),
    "apache-2.0": Licence("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": Licence("MIT License", "https://opensource.org/license/mit"),
}
DEFAULT = "cc-by-4.0"
