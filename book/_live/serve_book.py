"""A Jupyter server extension: the built book, for who has the token, and Thebe.

The pages come from the server that runs their kernels. So a page needs no token of its
own: the address that `make live` opens logs the browser in, like JupyterLab's.
"""

from pathlib import Path

from jupyter_server.base.handlers import AuthenticatedFileHandler, JupyterHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join

HERE = Path(__file__).resolve().parent
HTML = HERE.parents[1] / "_build" / "html"


class BookHandler(AuthenticatedFileHandler):
    """A file of the built book, or of Thebe."""

    @property
    def content_security_policy(self) -> str:
        """Without Jupyter's sandbox for foreign pages: ours may ask for a kernel."""
        return JupyterHandler.content_security_policy.fget(self)

    def set_headers(self) -> None:
        """Give the browser the cookie that it has to show when it asks for a kernel."""
        super().set_headers()
        self.xsrf_token  # noqa: B018 (reading it sets the cookie)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "serve_book"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    routes = {"read": HTML, "thebe": HERE / "thebe"}
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(app.base_url, route, "(.*)"), BookHandler, {"path": folder})
            for route, folder in routes.items()
        ],
    )
