"""Variables of the environment with which numba could not even be imported."""

from __future__ import annotations

import logging
import os

from bmi_cdlm.names.errors import shown

NUMBA_THREADS = "NUMBA_NUM_THREADS"
MOST_THREADS = 65_536


def mend_environment() -> None:
    """Take a number of threads that is none out of the environment, with a note; our threads are not numba's."""
    text = os.environ.get(NUMBA_THREADS)
    if text is None:
        return
    try:
        if 0 < int(text) <= MOST_THREADS:
            return
    except ValueError:
        pass
    del os.environ[NUMBA_THREADS]
    logging.getLogger(__name__).warning(
        "%s is '%s', expected a whole number above 0; it is left out. The threads of a run are the key 'threads'.",
        NUMBA_THREADS, shown(text),
    )
