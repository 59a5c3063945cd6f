"""How `make lab` sets up JupyterLab.

Beside this file, `overrides.json` opens Markdown as notebooks on a double click, and
`page_config.json` switches off what would ask the network for news and updates.
"""

from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

HERE = Path(__file__).resolve().parent

c = get_config()  # noqa: F821 (Jupyter defines it)
c.ServerApp.root_dir = str(HERE.parent)
c.ServerApp.ip = "localhost"
c.LabApp.app_settings_dir = str(HERE)
c.LabApp.extension_manager = "readonly"
# Otherwise language servers are sought by calling npm, which writes to the home folder.
c.LanguageServerManager.autodetect = False
# The file browser lists the chapters, and not what only the build needs.
c.ContentsManager.hide_globs.extend(["_*", "assets", "bibliography.md", "*.bib"])
# JupyterLab copies each file that it opens; not into the chapters' folder.
c.FileCheckpoints.checkpoint_dir = str(Path(jupyter_data_dir()) / "checkpoints")
