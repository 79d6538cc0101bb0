"""Regressors that end badly, for jobs to lose."""

import os
import signal
import time

from sklearn.linear_model import Ridge


class Deadly(Ridge):
    """Ridge, which at alpha 13 kills its process as the kernel does; unless it is spared."""

    def fit(self, X, y, sample_weight=None):
        if self.alpha == 13 and "SPARED" not in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, sample_weight)


class Slow(Ridge):
    """Ridge, slow enough to be killed in the middle."""

    def fit(self, X, y, sample_weight=None):
        time.sleep(float(os.environ.get("FIT_SECONDS", "0")))
        return super().fit(X, y, sample_weight)


class Faulty(Ridge):
    """Ridge with a bug, which shows only with data of some size."""

    def fit(self, X, y, sample_weight=None):
        if self.alpha == 13 and len(X) != 200:
            raise RuntimeError("a bug, and no setting's fault")
        return super().fit(X, y, sample_weight)
