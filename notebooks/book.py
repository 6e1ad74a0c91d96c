"""The course as a book: a website with navigation and search, made by Sphinx without a network.

Its lessons are those that `build.py course` has run on this machine, and the committed notebooks
where it has not. The pages beside them are the Markdown files of the repository, and the reference
comes from the docstrings of `utils`.
"""

import argparse
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat

from build import (
    BuildError,
    Course,
    first_line,
    key_result,
    read_notebook,
    read_text,
    setup_text,
    write_atomically,
)
from utils.exercises.verdicts import find_check

ROOT = Path(__file__).resolve().parents[1]
HOME = "docs/index.md"  # becomes the first page, at the top of the site
# Pages beside the lessons. What they link to and what is not here is linked on the website of the
# repository.
PAGES = (
    "docs/*.md",
    "models/MODEL_CARD.md",
    "data/README.md",
    "benchmarks/README.md",
    "CONTRIBUTING.md",
)
LEFT_OUT = ("docs/README.md",)  # the list of pages for readers of the repository
ARCHIVE = "kinship-course-notebooks.zip"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
BADGE = re.compile(r"\[!\[([^\]]+)\]\([^)]+\)\]")  # a picture from the web that is a link
# Comments in the pages of the repository, in whose place the book has a table.
LESSONS_MARK, EXERCISES_MARK = "<!-- lessons -->", "<!-- exercises -->"
TITLE = re.compile(r"^\*\*Exercise \d+\. (.+?)\.?\*\*", re.MULTILINE)
CHECKED = re.compile(r"exercises\.check\((\w+)")
PACKAGES = ("answers", "training", "scoring", "data", "faces", "exercises")


@dataclass(frozen=True)
class Row:
    """A lesson in the table of the home page.

    Attributes:
        path: the executed notebook.
        title: without its number.
        result: what its line `Key result:` says.
        seconds: that it took on this machine. None: it was not run here.
    """

    path: Path
    title: str
    result: str
    seconds: float | None

    @property
    def page(self) -> str:
        """Its name in the book, relative to the top."""
        return f"notebooks/{self.path.name}"

    @property
    def link(self) -> str:
        """A link from a page in `docs/`."""
        return f"[{self.path.name[:2]} {self.title}](../{self.page})"


# --- laying out the pages -----------------------------------------------------------------------


def lay_out(course: Course, rows: list[Row], to: Path) -> None:
    """Write everything that Sphinx reads into the folder `to`, laid out as the repository is."""
    shutil.rmtree(to, ignore_errors=True)
    paths = [path for pattern in PAGES for path in sorted(course.root.glob(pattern))]
    names = [path.relative_to(course.root).as_posix() for path in paths]
    pages = [name for name in names if name not in LEFT_OUT]
    links = Links(course, {*pages, *[row.page for row in rows]})

    # the pages, the lessons, the pictures that they show
    for name in pages:
        text = read_text(course.root / name)
        text = text.replace(LESSONS_MARK, table_of_lessons(rows))
        text = text.replace(EXERCISES_MARK, table_of_exercises(rows))
        write_atomically(to / place(name), links.rewritten(text, name))
    for row in rows:
        write_atomically(to / row.page, page_of(course, row, links))
    for picture in links.pictures:
        (to / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(course.root / picture, to / picture)

    # the reference, the archive with the solutions
    for name, text in reference():
        write_atomically(to / "docs" / "reference" / f"{name}.md", text)
    shutil.copytree(course.root / "docs" / "_static", to / "_static")
    pack(course, to / ARCHIVE)


def place(name: str) -> str:
    """Where a page of the repository lies in the book: only the first page moves."""
    return "index.md" if name == HOME else name


def table_of_lessons(rows: list[Row]) -> str:
    """What each lesson came to, in Markdown."""
    lines = ["| lesson | its key result here | seconds |", "|---|---|---|"]
    for row in rows:
        result = row.result.replace("|", "\\|")
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        lines.append(f"| {row.link} | {result} | {seconds} |")
    return "\n".join(lines)


def table_of_exercises(rows: list[Row]) -> str:
    """What each exercise tests, in Markdown: its check says so in its first line."""
    lines = ["| lesson | exercise | function | what the check tests |", "|---|---|---|---|"]
    for row in rows:
        cells = read_notebook(row.path).cells
        text = "\n".join(cell.source for cell in cells)
        for title, name in zip(TITLE.findall(text), CHECKED.findall(text), strict=True):
            tested = first_line(inspect.getdoc(find_check(name)) or "")
            lines.append(f"| {row.link} | {title} | `{name}` | {tested} |")
    return "\n".join(lines)


class Links:
    """Relative links of the repository's pages, as they are in the book.

    Attributes:
        pictures: files that the pages show, found while rewriting.
    """

    def __init__(self, course: Course, pages: set[str]) -> None:
        self.course, self.pages = course, pages
        self.pictures: set[str] = set()

    def rewritten(self, text: str, name: str) -> str:
        """The Markdown of the page `name`: links into the book stay, all others go to the web."""
        text = BADGE.sub(r"[\1]", text)
        return LINK.sub(lambda match: self._target(match[1], match[2] or "", name), text)

    def _target(self, link: str, anchor: str, name: str) -> str:
        target = os.path.normpath(PurePosixPath(name).parent / link)
        if PurePosixPath(target).suffix in (".jpg", ".png", ".svg"):
            self.pictures.add(target)
        elif target not in self.pages:
            kind = "tree" if (self.course.root / target).is_dir() else "blob"
            return f"{self.course.repository}/{kind}/main/{target}{anchor}"
        folder = PurePosixPath(place(name)).parent
        return os.path.relpath(place(target), folder).replace(os.sep, "/") + anchor


def page_of(course: Course, row: Row, links: Links) -> str:
    """The text of a notebook with the links of the book, and its setup cell folded."""
    notebook = read_notebook(row.path)
    setup = setup_text(course, row.path.stem)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = links.rewritten(cell.source, row.page)
        elif cell.source == setup:
            cell.metadata.tags = ["hide-input"]
    return nbformat.writes(notebook)


def pack(course: Course, path: Path) -> None:
    """The committed lessons and their solutions in one file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for lesson in course.lessons():
            for solved in (False, True):
                notebook = course.notebook(lesson, solved)
                name = notebook.relative_to(course.root)
                archive.write(notebook, Path("kinship-course", name))


# --- the reference ------------------------------------------------------------------------------


def reference() -> Iterator[tuple[str, str]]:
    """(name, Markdown) of a page for each package of `utils`, and one for its own modules."""
    for package in PACKAGES:
        names = [f"utils.{package}", *modules(f"utils.{package}")]
        yield package, reference_page(f"utils.{package}", names)
    path = importlib.import_module("utils").__path__
    own = [f"utils.{module.name}" for module in pkgutil.iter_modules(path) if not module.ispkg]
    own.remove("utils.__main__")
    yield "ground", reference_page("utils", own)


def modules(package: str) -> list[str]:
    """Names of the public modules in a package, also of those in packages inside it."""
    path = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.walk_packages(path, f"{package}.")]
    return sorted(name for name in names if "._" not in name)


def reference_page(title: str, names: list[str]) -> str:
    """Markdown that asks Sphinx for the docstrings of these modules."""
    parts = [f"# `{title}`"]
    for name in names:
        if name != title:
            parts.append(f"## `{name.removeprefix(title + '.')}`")
        members = "" if name == title else "   :members:\n"
        parts.append(f"```{{eval-rst}}\n.. automodule:: {name}\n{members}```")
    return "\n\n".join(parts) + "\n"


# --- Sphinx -------------------------------------------------------------------------------------


def run_sphinx(source: Path, settings: Path, out: Path) -> list[str]:
    """Let Sphinx make the site of the folder `source` in `out`, anew; its warnings.

    Raises:
        BuildError: it could not.
    """
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.console import nocolor

    nocolor()
    shutil.rmtree(out, ignore_errors=True)
    warnings = io.StringIO()
    folders = (source, settings, out, source.with_name("doctrees"))
    try:
        app = Sphinx(*folders, "html", status=None, warning=warnings, freshenv=True)
        app.build()
    except SphinxError as error:
        raise BuildError(f"Sphinx could not make the book: {error}") from error
    return [line for line in warnings.getvalue().splitlines() if line.strip()]


# --- the command --------------------------------------------------------------------------------


def lessons_of(course: Course, run: Path) -> list[Row]:
    """The lessons in order, each as it ran here, or as it is committed."""
    rows = []
    for lesson in course.lessons():
        committed = course.notebook(lesson, solved=False)
        executed, seconds = run / committed.name, None
        if is_current(executed, committed):
            seconds = json.loads(read_text(executed.with_suffix(".json")))["seconds"]
        else:
            executed = committed
        notebook = read_notebook(executed)
        title = first_line(notebook.cells[0].source).partition(": ")[2] or lesson
        rows.append(Row(executed, title, key_result(notebook, lesson), seconds))
    return rows


def is_current(executed: Path, committed: Path) -> bool:
    """Whether the notebook that ran here has the cells of the committed one."""
    if not executed.is_file():
        return False
    cells = [read_notebook(path).cells for path in (executed, committed)]
    sources = [[cell.source for cell in part] for part in cells]
    return sources[0] == sources[1]


def make_book(course: Course, run: Path, out: Path) -> list[str]:
    """Write the site to `out`; the warnings of Sphinx.

    Raises:
        BuildError: a page cannot be read, or Sphinx could not.
    """
    source = course.root / "build" / "book" / "source"
    lay_out(course, lessons_of(course, run), source)
    return run_sphinx(source, course.root / "docs", out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python notebooks/book.py --out /tmp/site",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build" / "course",
        help="folder of the site, made anew (default: build/course)",
    )
    top.add_argument(
        "--lessons",
        type=Path,
        default=ROOT / "build" / "lessons",
        help="folder of the executed lessons (default: build/lessons)",
    )
    return top


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Make the book; return the exit status."""
    options = parser().parse_args(arguments)
    start = time.perf_counter()
    print("the book ... ", end="", flush=True)
    try:
        warnings = make_book(Course(root), options.lessons, options.out)
    except (BuildError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"{time.perf_counter() - start:.1f} s")
    for warning in warnings:
        print(f"  {warning}", file=sys.stderr)
    print(f"Open {options.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
