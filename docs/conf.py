"""Settings of Sphinx for the course as a book, which `notebooks/book.py` makes."""

import tomllib
from pathlib import Path

_project = tomllib.loads(
    (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]

project = "Kinship and identity from faces"
author = "the authors of the course"
copyright = f"2026, {author}"
version = release = _project["version"]
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]

# The lessons were run before; nothing here runs them again.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # their pictures are static
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
html_copy_source = True

# The reference: modules in the order of their source.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sphinx = False
html_last_updated_fmt = ""
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "repository_url": _project["urls"]["Repository"],
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search field stands in the sidebar
    "show_toc_level": 2,
}
suppress_warnings = [
    "mystnb.unknown_mime_type",
    "config.cache",
    "ref.python",  # a name that two modules have
]


def linkcode_resolve(domain: str, info: dict[str, str]) -> str:
    """Where the link [source] of the reference leads: the module's file in the repository."""
    path = info["module"].replace(".", "/")
    root = Path(__file__).resolve().parents[1]
    file = f"{path}/__init__.py" if (root / path).is_dir() else f"{path}.py"
    return f"{_project['urls']['Repository']}/blob/main/{file}"
