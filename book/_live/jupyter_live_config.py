"""How `make live` sets up its server: the built book, and JupyterLab beside it."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # for `serve_book`

c = get_config()  # noqa: F821 (Jupyter defines it)
load_subconfig(str(HERE.parent / "_lab" / "jupyter_lab_config.py"))  # noqa: F821
c.ServerApp.jpserver_extensions = {"serve_book": True}
c.ServerApp.default_url = "/read/book/index.html"
c.ServerApp.open_browser = True
# A page that is closed leaves its kernel: one that nobody is connected to ends in time.
c.MappingKernelManager.cull_idle_timeout = 600
c.MappingKernelManager.cull_interval = 60
