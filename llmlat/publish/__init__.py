"""Publishing: a dataset as a folder that stands on its own, and the check that it is what was published."""

from llmlat.publish.folder import Publishing, publish
from llmlat.publish.verify import Verified, verify

__all__ = ["Publishing", "Verified", "publish", "verify"]
