"""The site: `make docs` builds it; pages in `generated` are written by the code that they describe, see `pages`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # worked examples are small: reading them needs no compiler
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "training"), str(HERE.parent / "tests")]

from bmi_cdlm.version import __version__  # noqa: E402
from pages import write_all  # noqa: E402

project = "bmi_cdlm"
author = "The bmi_cdlm developers"
copyright = author
release = version = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "README.md"]
html_theme = "furo"
html_title = f"bmi_cdlm {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_permalinks_icon = "#"
# Nothing of the site comes from the network, and its search runs in the browser: it works from a folder of files.
html_theme_options = {"footer_icons": []}

write_all(HERE / "generated")
