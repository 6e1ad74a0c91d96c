"""The book: made once from the committed notebooks, then its pages are read as a browser would."""

import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book
import build

ROOT = Path(__file__).resolve().parents[2]
UTILS = ROOT / "utils"


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.update(values[key] for key in ("id", "name") if values.get(key))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") == "stylesheet":
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(the folder of the site, Sphinx's warnings)."""
    out = tmp_path_factory.mktemp("site")
    course = build.Course(ROOT)
    rows = book.lessons_of(course, run=out / "nothing ran here")
    source = tmp_path_factory.mktemp("pages") / "source"
    book.lay_out(course, rows, source)
    return out, book.run_sphinx(source, ROOT / "docs", out)


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path, parsed."""
    folder, _ = site
    paths = [path for path in folder.rglob("*.html") if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def test_sphinx_has_nothing_to_remark(site):
    assert site[1] == []


def test_every_internal_link_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
            elif address.fragment and target in pages:
                place = unquote(address.fragment)
                if place not in pages[target].ids:
                    broken.append(f"{path.name}: {link} (no such place)")
    assert broken == []


def test_book_loads_nothing_from_the_web(pages):
    foreign = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert foreign == set()


def test_lesson_has_its_buttons_and_its_neighbours(site, pages):
    folder, _ = site
    lessons = build.Course(ROOT).lessons()
    links = pages[folder / "notebooks" / f"{lessons[4]}.html"].links
    assert any("colab.research.google.com" in link for link in links)
    assert any("kaggle.com/kernels/welcome" in link for link in links)
    assert any(link.endswith(f"_sources/notebooks/{lessons[4]}.ipynb") for link in links)
    for neighbour in (lessons[3], lessons[5]):
        assert f"{neighbour}.html" in links


def test_setup_cell_is_folded(site):
    text = (site[0] / "notebooks" / "01_data_audit.html").read_text(encoding="utf-8")
    before, _, _ = text.partition("import importlib.util")
    assert before.rindex("<details") > before.rindex("What you will learn")


def test_solutions_are_in_the_archive_and_not_among_the_pages(site):
    folder, _ = site
    assert not list(folder.rglob("solutions"))
    [archive] = folder.rglob(book.ARCHIVE)
    names = zipfile.ZipFile(archive).namelist()
    for lesson in build.Course(ROOT).lessons():
        assert f"kinship-course/notebooks/{lesson}.ipynb" in names
        assert f"kinship-course/notebooks/solutions/{lesson}.ipynb" in names


def test_search_finds_words_of_lessons_and_reference(site):
    index = (site[0] / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    numbers = set()
    for words in (index["terms"], index["titleterms"]):  # one page: a number, not a list
        pages = words.get("temperatur", [])
        numbers.update(pages if isinstance(pages, list) else [pages])
    names = [index["docnames"][number] for number in numbers]
    assert any(name.startswith("notebooks/05") for name in names)
    assert "docs/reference/training" in names


def test_reference_has_every_public_module():
    named = {
        name for _, text in book.reference() for name in re.findall(r"automodule:: (\S+)", text)
    }
    paths = [path.relative_to(ROOT).with_suffix("") for path in UTILS.rglob("*.py")]
    modules = {".".join(path.parts) for path in paths if not path.name.startswith("_")}
    commands = {name for name in modules if name.startswith("utils.commands")}
    assert modules - commands <= named


def test_every_exercise_is_in_the_teachers_table(site):
    text = (site[0] / "docs" / "teachers.html").read_text(encoding="utf-8")
    for source in (ROOT / "notebooks" / "source").glob("[0-9]*.py"):
        for name in book.CHECKED.findall(source.read_text(encoding="utf-8")):
            assert name in text


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["index", "notebooks/03_first_model", "docs/teachers"])
def test_page_fits_on_a_phone_and_on_a_screen(site, browser, name, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((site[0] / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()


# --- links --------------------------------------------------------------------------------------


@pytest.fixture
def links(tmp_path):
    """Two pages and a picture in a repository."""
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "utils").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/some/where"\n'
    )
    return book.Links(
        build.Course(tmp_path), {"docs/index.md", "docs/a.md", "notebooks/01_b.ipynb"}
    )


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/a.md", "../notebooks/01_b.ipynb", "../notebooks/01_b.ipynb"),
        ("docs/index.md", "../notebooks/01_b.ipynb", "notebooks/01_b.ipynb"),
        ("docs/a.md", "index.md", "../index.md"),
        ("docs/index.md", "a.md#part", "docs/a.md#part"),
        ("docs/a.md", "#part", "#part"),
        ("docs/a.md", "https://x.org/y.md", "https://x.org/y.md"),
        ("docs/a.md", "../LICENSE", "https://github.com/some/where/blob/main/LICENSE"),
        ("docs/a.md", "../utils", "https://github.com/some/where/tree/main/utils"),
        ("docs/index.md", "../data/five.jpg", "data/five.jpg"),
    ],
)
def test_link_stays_in_the_book_or_goes_to_the_repository(links, page, link, expected):
    assert links.rewritten(f"see [it]({link}).", page) == f"see [it]({expected})."
    assert links.pictures == ({"data/five.jpg"} if "five" in link else set())


def test_badge_becomes_words(links):
    text = "[![Open in Colab](https://x.org/badge.svg)](https://colab.org/github/y)"
    assert links.rewritten(text, "docs/a.md") == "[Open in Colab](https://colab.org/github/y)"


# --- which notebook is shown --------------------------------------------------------------------


def notebook(text, result):
    """A lesson of two cells as text."""
    cell = new_code_cell(text, outputs=[new_output("stream", text=f"Key result: {result}\n")])
    return nbformat.writes(new_notebook(cells=[new_markdown_cell("# Lesson 01: Tiny"), cell]))


@pytest.fixture
def course(tmp_path):
    """A course of one lesson, as it is committed and as it ran here."""
    root = tmp_path / "course"
    (root / "notebooks" / "source").mkdir(parents=True)
    (root / "notebooks" / "source" / "01_tiny.py").write_text("")
    (root / "notebooks" / "01_tiny.ipynb").write_text(notebook("print(1)", "committed"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "01_tiny.json").write_text('{"seconds": 2.5}')
    return build.Course(root)


def test_lesson_that_ran_here_is_shown_with_its_seconds(course, tmp_path):
    (tmp_path / "run" / "01_tiny.ipynb").write_text(notebook("print(1)", "fresh"))
    [row] = book.lessons_of(course, tmp_path / "run")
    assert (row.title, row.result, row.seconds) == ("Tiny", "fresh", 2.5)
    assert "| [01 Tiny](../notebooks/01_tiny.ipynb) | fresh | 2 |" in book.table_of_lessons([row])


def test_run_of_an_older_lesson_is_passed_over(course, tmp_path):
    (tmp_path / "run" / "01_tiny.ipynb").write_text(notebook("print(0)", "stale"))
    [row] = book.lessons_of(course, tmp_path / "run")
    assert (row.result, row.seconds) == ("committed", None)


def test_missing_notebook_is_one_sentence(course, tmp_path, capsys):
    (course.notebooks / "01_tiny.ipynb").unlink()
    assert book.main(["--lessons", str(tmp_path), "--out", str(tmp_path)], root=course.root) == 1
    assert "01_tiny.ipynb is missing" in capsys.readouterr().err


def test_sphinx_that_fails_is_one_sentence(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "conf.py").write_text("extensions = ['no_such_extension']\n")
    with pytest.raises(build.BuildError, match="Sphinx could not make the book"):
        book.run_sphinx(tmp_path / "source", tmp_path, tmp_path / "out")
