"""Make the notebooks from notebooks/source/ and run them.

A lesson is edited in one place, the py:percent text notebooks/source/NN_name.py.
Everything else is made from it:

    generate   notebooks/NN_name.ipynb and its solved twin under notebooks/solutions/
    course     run the lessons in order; book.py makes a website of them
    check      do the committed notebooks agree with their sources, and the lessons with the rules?
    overview   how many cells, words and exercises each lesson has
    grade      which exercises are correct in the notebooks of students?
    join       build/joined/NN_name.ipynb: what nbval runs, a lesson and then its solutions
    colab      does the setup cell fetch the course where it is not installed?

Conventions of a source
-----------------------
- The first cell is Markdown and opens with the lesson's one H1; the badges follow it.
- A code cell that holds only `# SETUP` becomes the text of notebooks/source/_setup.py.
- A question that the reader should answer before going on opens with `**Guess first.**`.
- Lines between `# BEGIN SOLUTION` and `# END SOLUTION` are left out for students, who see the
  code of the `# STUB: ...` lines just above instead, or `...  # your code here`.
- Code cells that open with `# SOLUTION CHECK` and Markdown cells that open with
  `<!-- SOLUTION -->` stand in the solved twin only.
- A code cell with `# REAL PHOTO` in it draws a real person: the committed notebooks do not keep
  its picture. The HTML pages, made on the reader's own machine, do.
- One output line of the lesson starts with `Key result:`.

Rules of a lesson
-----------------
- Its source is called NN_name.py, and README.md has a row for it that links its notebook.
- In this order: `# Lesson NN: ...`, `**What you will learn**`, `## 1.`, `## What we saw`,
  `## A larger exercise`, `## Where to go next`; there is one H1, and one `# SETUP` cell.
- Half of its code cells have at most 6 lines, none has more than 25; there are at most 45.
- Exercises are numbered over the lesson (`**Exercise 1. ...**`): 3 or more inside the sections,
  1 or more below `## A larger exercise`. Each is a question, a cell with one pair of
  `# BEGIN SOLUTION` and `# END SOLUTION`, and a cell with one `exercises.check(...)`.
- After the last of them stands `exercises.report()`, then one `# SOLUTION CHECK` that asserts it.
- Two or more `**Guess first.**`
"""

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, ValidationError
from nbformat.reader import NotJSONError
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
SIZE_LIMIT = 1_000_000  # bytes of one notebook file
CELL_SECONDS = 1800  # longest time for one cell

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
BEGIN, END, STUB = "# BEGIN SOLUTION", "# END SOLUTION", "# STUB:"
DEFAULT_STUB = "...  # your code here"
SOLVED_ONLY = {"code": "# SOLUTION CHECK", "markdown": "<!-- SOLUTION -->"}
REAL_PHOTO = "# REAL PHOTO"
WIDGET = "application/vnd.jupyter.widget-view+json"
KEY_RESULT = re.compile(r"^Key result:\s*(\S.*)$", re.MULTILINE)
CONFLICT = re.compile(r"^\s*\"?(?:<{7}|>{7})(?: |$)")  # what git writes around two versions
LESSON_NAME = re.compile(r"\d\d_\w+")
GITHUB = re.compile(
    r"(?:git\+)?(?:https?://|ssh://|git://)?(?:[^/@]+@)?(?:www\.)?github\.com[/:]"
    r"([^/]+)/([^/]+?)(?:\.git)?(?:/.*)?"
)

# the parts of a lesson, in their order
PARTS = (
    "# Lesson ",
    "**What you will learn**",
    "\n## 1.",
    "\n## What we saw",
    "\n## A larger exercise",
    "\n## Where to go next",
)
USUAL_LINES, MOST_LINES = 6, 25  # of a code cell: the median, the longest
MOST_CELLS = 45  # with code, as students get the lesson
FEWEST_INSIDE, FEWEST_AFTER = 3, 1  # exercises: in the sections, and below the last heading
FEWEST_GUESSES = 2
QUESTION = re.compile(r"^# \*\*Exercise (\d+)\. ", re.MULTILINE)
GUESS, CHECK, REPORT = "**Guess first.**", "exercises.check(", "exercises.report()"


class BuildError(Exception):
    """Something that the author of a lesson must put right, in one sentence."""


@dataclass(frozen=True)
class Course:
    """The checkout that holds the lessons."""

    root: Path

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def source(self) -> Path:
        return self.notebooks / "source"

    @property
    def repository(self) -> str:
        """The address in pyproject.toml; one on GitHub in the form that a browser opens."""
        path = self.root / "pyproject.toml"
        try:
            address = tomllib.loads(read_text(path))["project"]["urls"]["Repository"].strip()
        except tomllib.TOMLDecodeError as error:
            raise BuildError(f"{path} is not valid TOML: {error}") from error
        except KeyError as error:
            raise BuildError(
                f"{path} has no `Repository` below [project.urls]; write the address of your "
                "repository there."
            ) from error
        match = GITHUB.fullmatch(address.rstrip("/"))
        return "https://github.com/{}/{}".format(*match.groups()) if match else address.rstrip("/")

    def lessons(self, selection: Sequence[str] = ()) -> list[str]:
        """Names of the lessons in order; `selection` holds names or their numbers."""
        names = sorted(path.stem for path in self.source.glob("*.py") if is_lesson(path))
        selected = set()
        for word in selection:
            matches = [name for name in names if is_called(name, word)]
            if not matches:
                raise BuildError(f"no lesson is called {word}; there are: {', '.join(names)}")
            selected.update(matches)
        return sorted(selected) if selection else names

    def notebook(self, lesson: str, solved: bool) -> Path:
        folder = self.notebooks / "solutions" if solved else self.notebooks
        return folder / f"{lesson}.ipynb"


def is_lesson(path: Path) -> bool:
    """Whether a source is called as a lesson must be: NN_name.py."""
    return LESSON_NAME.fullmatch(path.stem) is not None


def is_called(lesson: str, word: str) -> bool:
    """`1`, `01`, `01_data_audit` and `notebooks/source/01_data_audit.py` all name the lesson."""
    stem = Path(word).stem
    return stem == lesson or stem.zfill(2) == lesson[:2]


# Files that people and their tools have written


def read_text(path: Path) -> str:
    """A source as text. Refuses one that is missing, not UTF-8, or in the middle of a merge."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BuildError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not text in UTF-8 (byte {error.start + 1})") from error
    refuse_conflict(path, text)
    return text


def refuse_conflict(path: Path, text: str) -> None:
    """Raise BuildError where git has left both versions of a line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if CONFLICT.match(line):
            raise BuildError(
                f"{path} has an unresolved merge conflict in line {number}; keep one of the two "
                "versions."
            )


def read_notebook(path: Path) -> NotebookNode:
    """A notebook file. Refuses what Jupyter could not open, in one sentence."""
    text = read_text(path)
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (NotJSONError, ValidationError, AttributeError, KeyError, TypeError) as error:
        raise BuildError(
            f"{path} is not a notebook that Jupyter opens: {first_line(str(error))[:80]}"
        ) from error
    return notebook


# From a source to a notebook without outputs


def split_exercise(source: str, solved: bool) -> str:
    """The text of a code cell as the solved twin shows it, or as students get it."""
    lines: list[str] = []
    stubs: list[str] = []
    inside = False  # a solution
    for line in source.splitlines():
        text = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if text in (BEGIN, END):
            if inside != (text == END):
                raise BuildError(f"`{text}` has no partner")
            inside = text == BEGIN
            if inside and not solved:
                lines += stubs or [indent + DEFAULT_STUB]
            stubs = []
        elif text.startswith(STUB) and not inside:
            stubs.append(indent + text.removeprefix(STUB).removeprefix(" "))
        elif stubs:
            raise BuildError(f"`{STUB}` stands without `{BEGIN}` after it")
        elif solved or not inside:
            lines.append(line)
    if inside or stubs:
        raise BuildError(f"`{BEGIN if inside else STUB}` has no partner")
    return "\n".join(lines)


def badges(repository: str, path: str) -> str:
    """The line that opens a notebook of the main branch on Colab or Kaggle, from GitHub only."""
    match = GITHUB.fullmatch(repository)
    if match is None:
        return ""
    place = f"{'/'.join(match.groups())}/blob/main/{path}"
    colab = "https://colab.research.google.com"
    kaggle = "https://kaggle.com"
    return (
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{place}) "
        f"[![Open in Kaggle]({kaggle}/static/images/open-in-kaggle.svg)]"
        f"({kaggle}/kernels/welcome?src=https://github.com/{place})"
    )


def with_badges(source: str, line: str) -> str:
    """Put the badges under the title that opens the first cell."""
    title, _, rest = source.partition("\n")
    if not title.startswith("# "):
        raise BuildError("the first cell must be Markdown that opens with `# Title`")
    return "\n\n".join(part for part in (title, line, rest.strip("\n")) if part)


def setup_text(course: Course, lesson: str) -> str:
    """The setup cell that every lesson shares, for this one."""
    text = read_text(course.source / "_setup.py").strip()
    return text.replace("{repository}", course.repository).replace("{number}", lesson[:2])


def cell_text(course: Course, lesson: str, cell: NotebookNode, solved: bool) -> str:
    """What a cell of the source becomes in the notebook."""
    if cell.cell_type != "code":
        return cell.source
    if cell.source.strip() == "# SETUP":
        return setup_text(course, lesson)
    return split_exercise(cell.source, solved)


def compose(course: Course, lesson: str, solved: bool) -> NotebookNode:
    """The lesson's notebook as its source gives it: no outputs, the same every time."""
    path = course.source / f"{lesson}.py"
    parsed = jupytext.reads(read_text(path), fmt="py:percent")
    cells = [cell for cell in parsed.cells if solved or not is_solved_only(cell)]

    # the text of each cell; an author's mistake is reported with the cell's number
    if not cells or cells[0].cell_type != "markdown":
        raise BuildError(f"{lesson}: the first cell must be Markdown that opens with `# Title`")
    for number, cell in enumerate(cells, start=1):
        try:
            cell.source = cell_text(course, lesson, cell, solved)
            if number == 1:
                target = course.notebook(lesson, solved).relative_to(course.root).as_posix()
                cell.source = with_badges(cell.source, badges(course.repository, target))
        except BuildError as error:
            raise BuildError(f"{lesson}: cell {number}: {error}") from error
        # ids and metadata that are the same every time
        cell.id = f"c{number:03d}"
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if key in cell.metadata}
    return nbformat.from_dict(
        {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    )


def is_solved_only(cell: NotebookNode) -> bool:
    mark = SOLVED_ONLY.get(cell.cell_type)
    return mark is not None and cell.source.lstrip().startswith(mark)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


# Running


def execute(
    notebook: NotebookNode,
    folder: Path,
    lesson: str,
    kernel_dirs: Sequence[Path] = (),
    through: bool = False,
) -> None:
    """Run every cell in `folder` by this interpreter; the outputs land in the notebook.

    `through`: also the cells behind one that fails. `kernel_dirs` may hold a `python3` kernel to
    use instead. With none, Jupyter falls back on the interpreter itself, so that a kernel of that
    name elsewhere on the machine is never used.
    """
    specs = KernelSpecManager(kernel_dirs=[str(path) for path in kernel_dirs])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_SECONDS,
        allow_errors=through,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.owns_km = True  # so that it ends the kernel
    with tempfile.TemporaryFile() as log:  # the libraries' chatter, of use only after a crash
        try:
            client.execute(stdout=log, stderr=log)
        except CellExecutionError as error:
            raise BuildError(describe_failure(notebook, lesson, error)) from error
        except (CellTimeoutError, DeadKernelError) as error:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise BuildError(": ".join([lesson, first_line(str(error)), *last])) from error


def describe_failure(notebook: NotebookNode, lesson: str, error: CellExecutionError) -> str:
    """Lesson, cell, first line of the cell, and the exception: one sentence, no traceback."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any(output.output_type == "error" for output in cell.outputs):
            where = f"code cell {number} (`{first_line(cell.source)}`)"
            return f"{lesson}: {where} failed: {error.ename}: {error.evalue}"
    return f"{lesson}: {error.ename}: {error.evalue}"


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def without_real_photos(notebook: NotebookNode) -> NotebookNode:
    """Drop what cells that show a real person drew."""
    for cell in code_cells(notebook):
        if REAL_PHOTO in cell.source:
            cell.outputs = [output for output in cell.outputs if not is_picture(output)]
    return notebook


def is_picture(output: NotebookNode) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Keep of the outputs only what is the same each time the lesson runs on a machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        cell.outputs = tidy_outputs(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    return notebook


def tidy_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Drop standard error and widgets, and join neighbouring pieces of standard output."""
    tidy: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
            continue
        if output.output_type == "stream" and tidy and tidy[-1].output_type == "stream":
            tidy[-1].text += output.text
        else:
            tidy.append(output)
    for output in tidy:
        tidy_text(output)
    return tidy


def tidy_text(output: NotebookNode) -> None:
    """Resolve carriage returns and hide memory addresses, which differ from run to run."""
    if output.output_type == "stream":
        output.text = masked(re.sub(r"[^\n]*\r(?!\n)", "", output.text.replace("\r\n", "\n")))
    plain = output.get("data", {}).get("text/plain")
    if isinstance(plain, str):
        output.data["text/plain"] = masked(plain)


def masked(text: str) -> str:
    return re.sub(r"\bat 0x[0-9a-fA-F]{6,}", "at 0x...", text)


def output_texts(notebook: NotebookNode) -> Iterator[str]:
    """Every piece of output that is text; pictures in base64 are not."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                yield output.text
            for kind, value in output.get("data", {}).items():
                if kind == "image/svg+xml" or not kind.startswith("image/"):
                    yield value if isinstance(value, str) else json.dumps(value)


def key_result(notebook: NotebookNode, lesson: str) -> str:
    """The rest of the last output line that starts with `Key result:`."""
    results = [match for text in output_texts(notebook) for match in KEY_RESULT.findall(text)]
    if not results:
        raise BuildError(f"{lesson}: no output line starts with `Key result:`")
    return results[-1].strip()


def leaked_path(notebook: NotebookNode, private: list[Path]) -> str | None:
    """The first of the private folders that an output names, if any."""
    folders = [str(path) for path in private if len(path.parts) > 1]
    for text in output_texts(notebook):
        for folder in folders:
            if re.search(re.escape(folder) + r"(?![\w.-])", text):
                return folder
    return None


# The commands


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def serialise(course: Course, notebook: NotebookNode, name: str) -> str:
    """The text of a notebook file; refuses one too large or one that names a private folder."""
    leak = leaked_path(notebook, [course.root, Path.home()])
    if leak:
        raise BuildError(f"{name}: an output names the folder {leak} of this machine")
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    size = len(text.encode())
    if size > SIZE_LIMIT:
        raise BuildError(f"{name}: {size:,} bytes, and the limit is {SIZE_LIMIT:,}")
    return text


def generate(course: Course, selection: Sequence[str] = ()) -> None:
    """Write both notebooks of each lesson, executed and normalised."""
    if os.environ.pop("KIN_DATA", None):
        print("KIN_DATA is set aside: committed notebooks show the synthetic families only.")
    for lesson in course.lessons(selection):
        for fault in faults(course, lesson):
            print(f"{lesson}: {fault}; `check` will refuse it")
        for solved in (False, True):
            path = course.notebook(lesson, solved)
            name = path.relative_to(course.root).as_posix()
            print(f"{name} ... ", end="", flush=True)
            start = time.perf_counter()
            # run it where it will lie; only a notebook that ran to its end is written
            path.parent.mkdir(parents=True, exist_ok=True)
            notebook = compose(course, lesson, solved)
            execute(notebook, path.parent, path.stem)
            key_result(normalise(notebook), lesson)  # `course` needs it
            text = serialise(course, without_real_photos(notebook), name)
            copy = keep_edits(course, path, notebook)
            write_atomically(path, text)
            print(f"{time.perf_counter() - start:.1f} s, {len(text) / 1000:.0f} kB")
            if copy:
                print(f"  cells of yours stood in it; the old file is {copy}")


def keep_edits(course: Course, path: Path, notebook: NotebookNode) -> str | None:
    """Copy the notebook at `path` into notebooks/kept/ before `notebook` takes its place.

    Only where something would be lost: cells that the new notebook lacks and git does not have.

    Returns:
        The path of the copy, relative to the checkout, or None where none is needed.
    """
    if not path.is_file():
        return None
    old = path.read_text(encoding="utf-8", errors="replace")
    known = cell_sources(nbformat.writes(notebook)) | cell_sources(committed_text(course, path))
    if old.strip() and cell_sources(old) and cell_sources(old) <= known:
        return None

    # a name that no earlier copy has
    folder = course.notebooks / "kept"
    names = (f"{path.parent.name}-{path.stem}-{number}.ipynb" for number in itertools.count(1))
    copy = next(folder / name for name in names if not (folder / name).exists())
    folder.mkdir(exist_ok=True)
    shutil.copy2(path, copy)
    return copy.relative_to(course.root).as_posix()


def cell_sources(text: str) -> set[str]:
    """The texts of a notebook's cells; none where it is not a notebook."""
    try:
        cells = nbformat.reads(text, as_version=4).cells
    except (NotJSONError, ValidationError, AttributeError, KeyError, TypeError):
        return set()
    return {cell.source.strip() for cell in cells}


def committed_text(course: Course, path: Path) -> str:
    """The file as git has it; empty where git does not."""
    name = path.relative_to(course.root).as_posix()
    try:
        command = ["git", "show", f"HEAD:./{name}"]
        shown = subprocess.run(command, cwd=course.root, capture_output=True, check=False)
    except FileNotFoundError:  # a machine without git
        return ""
    return shown.stdout.decode("utf-8", errors="replace") if shown.returncode == 0 else ""


def run_course(course: Course, selection: Sequence[str], out: Path) -> None:
    """Execute the lessons in order, write them and what came out, and sum them up in a table."""
    rows = []  # (lesson, seconds, key result)
    for lesson in course.lessons(selection):
        print(f"{lesson} ... ", end="", flush=True)
        start = time.perf_counter()
        notebook = compose(course, lesson, solved=False)
        execute(notebook, course.notebooks, lesson)
        result = key_result(normalise(notebook), lesson)
        seconds = time.perf_counter() - start
        write_atomically(out / f"{lesson}.ipynb", nbformat.writes(notebook))
        write_atomically(out / f"{lesson}.json", json.dumps({"seconds": round(seconds, 1)}))
        rows.append((lesson, seconds, result))
        print(f"{seconds:.1f} s  {result}", flush=True)
    print("\n" + summary(rows) + "\n")


def summary(rows: list[tuple[str, float, str]]) -> str:
    """An aligned table: lesson, seconds, key result; the total last."""
    total = ("total", sum(seconds for _, seconds, _ in rows), "")
    width = max(len(lesson) for lesson, _, _ in [*rows, total, ("lesson", 0, "")])
    lines = [f"{'lesson':<{width}}  {'seconds':>7}  key result"]
    lines += [f"{name:<{width}}  {seconds:>7.1f}  {result}" for name, seconds, result in rows]
    lines.append(f"{total[0]:<{width}}  {total[1]:>7.1f}")
    return "\n".join(lines)


def problems(course: Course) -> list[str]:
    """One sentence for each committed notebook that is not what its source gives."""
    # where each notebook should lie, and what makes it
    expected = {
        course.notebook(name, solved): (name, solved)
        for name in course.lessons()
        for solved in (False, True)
    }

    # those that are left over, then those that differ
    committed = [*course.notebooks.glob("*.ipynb"), *course.notebooks.glob("solutions/*.ipynb")]
    reasons = {path: "it has no source" for path in committed if path not in expected}
    for path, (lesson, solved) in expected.items():
        reason = difference(compose(course, lesson, solved), path)
        if reason:
            reasons[path] = reason
    return [
        f"{path.relative_to(course.root).as_posix()}: {reasons[path]}" for path in sorted(reasons)
    ]


def difference(expected: NotebookNode, path: Path) -> str | None:
    """Why the notebook at `path` is not an executed copy of the expected one, or None."""
    if not path.is_file():
        return "it is missing"
    try:
        notebook = read_notebook(path)
    except BuildError as error:
        return str(error).replace(str(path), "it", 1)
    if len(notebook.cells) != len(expected.cells):
        return f"it has {len(notebook.cells)} cells, and the source gives {len(expected.cells)}"
    # cell by cell, outputs aside
    cells = zip(notebook.cells, expected.cells, strict=True)
    for number, (cell, from_source) in enumerate(cells, start=1):
        if skeleton(cell) != skeleton(from_source):
            where = f"cell {number} (`{first_line(cell.source)}`)"
            return f"{where} differs from what the source gives"
    return execution_fault(notebook)


def skeleton(cell: NotebookNode) -> dict:
    """A cell without what running it adds, and without an editor's own notes on it."""
    tags = cell.metadata.get("tags", [])
    return {"type": cell.cell_type, "source": cell.source, "tags": tags}


def execution_fault(notebook: NotebookNode) -> str | None:
    """Say which code cell was not run in order, or ended in an error."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            return f"code cell {number} (`{first_line(cell.source)}`) was not executed in order"
        if any(output.output_type == "error" for output in cell.outputs):
            return f"code cell {number} (`{first_line(cell.source)}`) ended in an error"
    return None


def check(course: Course) -> None:
    """Fail when a lesson breaks a rule, or a committed notebook is not what its source gives."""
    sentences = strays(course)
    for lesson in course.lessons():
        sentences += [f"{lesson}: {fault}" for fault in faults(course, lesson)]
    if sentences:
        sentences.append(
            "The rules stand at the top of notebooks/build.py (`--help` prints them)."
        )
    agree(course, sentences)


def agree(course: Course, sentences: Sequence[str] = ()) -> None:
    """Fail when a committed notebook is not what its source gives, or with these `sentences`."""
    differences = problems(course)
    if differences:
        advice = "Run `make notebooks` to make them anew; edited cells are kept in notebooks/kept."
        differences.append(advice)
    if sentences or differences:
        raise BuildError("\n".join([*sentences, *differences]))
    print(f"{2 * len(course.lessons())} notebooks agree with their sources.")


def strays(course: Course) -> list[str]:
    """One sentence for each source that would be passed over because of its name."""
    return [
        f"notebooks/source/{path.name}: a lesson is called NN_name.py, as 08_my_lesson.py"
        for path in sorted(course.source.glob("*.py"))
        if not is_lesson(path) and not path.name.startswith("_")
    ]


def faults(course: Course, lesson: str) -> list[str]:
    """What the rules of a lesson, as the top of this file has them, find to mend in a source."""
    source = read_text(course.source / f"{lesson}.py")
    cells = jupytext.reads(source, fmt="py:percent").cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return [
        *faults_of_parts(text, lesson),
        *faults_of_code(code),
        *faults_of_exercises(source),
        *faults_of_guesses(text),
        *faults_of_readme(course, lesson),
    ]


def faults_of_parts(text: str, lesson: str) -> Iterator[str]:
    """The headings of a lesson: which is missing, and which stands too early."""
    places = [text.find(part) for part in PARTS]
    names = [f"`{part.strip()}`" for part in PARTS]
    for name, place, before in zip(names, places, [-1, *places], strict=False):
        if place < 0:
            yield f"{name} is missing"
        elif place < before:
            yield f"{name} stands too early; the order is {', '.join(names)}"
    if not text.startswith(f"# Lesson {lesson[:2]}: "):
        yield f"it must open with `# Lesson {lesson[:2]}: ...`"
    titles = re.findall(r"^# .*", text, re.MULTILINE)
    if len(titles) > 1:
        yield f"it has {len(titles)} titles; `{titles[1]}` must be a section, with `##`"


def faults_of_code(code: list[str]) -> Iterator[str]:
    """The code cells of a lesson: their lengths, and the cell that sets up."""
    if sum(cell.strip() == "# SETUP" for cell in code) != 1:
        yield "it needs one code cell that holds only `# SETUP`"
    count = sum(not cell.startswith(SOLVED_ONLY["code"]) for cell in code)
    if count > MOST_CELLS:
        yield f"it has {count} code cells; {MOST_CELLS} are allowed"
    lengths = [len(cell.splitlines()) for cell in code]
    if code and statistics.median(lengths) > USUAL_LINES:
        yield f"more than half of its code cells have over {USUAL_LINES} lines; split them"
    for cell, length in zip(code, lengths, strict=True):
        if length > MOST_LINES:
            where = f"the code cell `{first_line(cell)}`"
            yield f"{where} has {length} lines; {MOST_LINES} are allowed"


def faults_of_exercises(source: str) -> Iterator[str]:
    """The exercises of a lesson: where they stand, and a solution and a check for each."""
    inside, _, after = source.partition("## A larger exercise")
    for where, text, fewest in (
        ("in the sections", inside, FEWEST_INSIDE),
        ("below `## A larger exercise`", after, FEWEST_AFTER),
    ):
        if len(QUESTION.findall(text)) < fewest:
            yield f"{where} stand fewer than {fewest} questions `**Exercise N. ...**`"

    # one of each for every question, and the questions in order
    numbers = [int(number) for number in QUESTION.findall(source)]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its exercises have the numbers {numbers}; count from 1 over the whole lesson"
    for mark in (BEGIN, CHECK):
        if source.count(mark) != len(numbers):
            yield f"it has {len(numbers)} exercises, but {source.count(mark)} `{mark}`"

    # the end: for students, then for the solved twin alone
    shown, _, hidden = after.partition(SOLVED_ONLY["code"])
    for mark, present in ((REPORT, REPORT in shown), (SOLVED_ONLY["code"], bool(hidden))):
        if not present:
            yield f"its exercises do not end in a cell with `{mark}`"


def faults_of_guesses(text: str) -> Iterator[str]:
    """The questions that a reader answers before the next figure."""
    if text.count(GUESS) < FEWEST_GUESSES:
        yield f"it has {text.count(GUESS)} `{GUESS}`, not {FEWEST_GUESSES} or more"


def faults_of_readme(course: Course, lesson: str) -> Iterator[str]:
    """The table of lessons, where the lesson must stand."""
    page = course.root / "README.md"
    if not page.is_file() or f"](notebooks/{lesson}.ipynb)" not in read_text(page):
        yield f"the table of lessons in README.md has no row with [...](notebooks/{lesson}.ipynb)"


def join(course: Course) -> None:
    """Write a notebook for each lesson that holds both committed ones, for nbval to run.

    What the two share runs once. Behind each exercise's check, which has found nothing written,
    come the solution and the check again, as the solved twin has them.
    """
    agree(course)
    folder = course.root / "build" / "joined"
    for old in folder.glob("*.ipynb"):
        old.unlink()
    for lesson in course.lessons():
        paths = [course.notebook(lesson, solved) for solved in (False, True)]
        student, twin = (read_notebook(path) for path in paths)
        student.cells = joined_cells(student, twin)
        student.metadata = nbformat.from_dict(METADATA)  # not the kernel of the last editor
        write_atomically(folder / f"{lesson}.ipynb", nbformat.writes(student))


def joined_cells(student: NotebookNode, twin: NotebookNode) -> list[NotebookNode]:
    """The student's code cells, and the twin's where they differ, behind the next check."""
    cells = []
    waiting: list[NotebookNode] = []  # solutions whose check has not come yet
    final = [cell for cell in code_cells(twin) if is_solved_only(cell)]
    answers = [cell for cell in code_cells(twin) if not is_solved_only(cell)]
    for cell, answer in zip(code_cells(student), answers, strict=True):
        cells.append(cell)
        if cell.source != answer.source:
            waiting.append(answer)
        elif waiting and CHECK in cell.source:
            cells += [*waiting, answer]
            waiting = []
    cells += [*waiting, *final]
    for number, cell in enumerate(cells, start=1):
        cell.id = f"j{number:03d}"  # every cell of a notebook has an id of its own
    return cells


def overview(course: Course) -> None:
    """Print what each lesson is made of."""
    print(f"{'lesson':<22}  code cells  words  exercises  guesses  sliders")
    for lesson in course.lessons():
        notebook = compose(course, lesson, solved=False)
        # its two kinds of text, and what is counted in each
        markdown = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        code = "\n".join(cell.source for cell in code_cells(notebook))
        numbers = (
            len(code_cells(notebook)),
            len(markdown.split()),
            code.count(CHECK),
            markdown.count(GUESS),
            code.count("plots.slider("),
        )
        print(f"{lesson:<22}  {{:>10}}  {{:>5}}  {{:>9}}  {{:>7}}  {{:>7}}".format(*numbers))


def grade(course: Course, paths: Sequence[Path]) -> None:
    """Run notebooks of students anew; print which exercises of each are correct."""
    for path in paths:
        notebook = read_notebook(path)
        notebook.cells.append(new_code_cell("from utils import exercises\nexercises.report();"))
        execute(notebook, course.notebooks, path.stem, through=True)
        verdicts = notebook.cells[-1].outputs
        print(f"{path}: {verdicts[0].text.strip() if verdicts else 'no exercise was checked'}")
        for cell in code_cells(notebook):
            if any(output.output_type == "error" for output in cell.outputs):
                print(f"  the cell `{first_line(cell.source)}` failed")


def colab(course: Course, selection: Sequence[str] = ()) -> None:
    """Run each lesson's setup cell where only its notebook is, as on Colab.

    Each lesson gets an empty folder and a new environment, which sees this interpreter's
    packages but not the course: Python reads no .pth file of a folder that a .pth file names,
    so the editable install stays out. The repository comes from KIN_REPO, or this checkout.
    """
    os.environ.setdefault("KIN_REPO", course.root.as_uri())
    os.environ.pop("PYTHONPATH", None)
    for lesson in course.lessons(selection):
        print(f"{lesson} ... ", end="", flush=True)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            home = setup_elsewhere(course, lesson, Path(folder).resolve())
        print(f"utils from {home}, {time.perf_counter() - start:.1f} s", flush=True)


def setup_elsewhere(course: Course, lesson: str, folder: Path) -> Path:
    """Run the setup cell in an empty place; return the clone's `utils`, relative to there."""
    # nothing but the notebook, as Colab opens it
    desk = folder / "content"
    desk.mkdir()
    committed = course.notebook(lesson, solved=False)
    if not committed.is_file():
        raise BuildError(f"{committed} is missing; run `make notebooks`")
    (desk / committed.name).write_bytes(committed.read_bytes())
    notebook = read_notebook(desk / committed.name)
    cells = [cell for cell in code_cells(notebook) if cell.source == setup_text(course, lesson)]
    if not cells:
        raise BuildError(f"{lesson}: it has no setup cell")

    # its setup cell, and one that says where the course is then
    probe = new_code_cell("import utils\nprint(utils.__file__)")
    notebook.cells = [cells[0], probe]
    execute(notebook, desk, lesson, [kernel_without_course(folder)])
    home = Path(notebook.cells[1].outputs[0].text.strip()).parent
    if home != desk / "kinship-course" / "utils":
        raise BuildError(f"{lesson}: `utils` came from {home}, not from the clone")
    return home.relative_to(folder)


def kernel_without_course(folder: Path) -> Path:
    """Make an environment without the course, and a folder with its `python3` kernel."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True, symlinks=True)
    python = environment / "bin" / "python"

    # it sees the packages of this interpreter
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", ask], text=True).strip()
    here = subprocess.check_output([sys.executable, "-c", ask], text=True)
    (Path(packages) / "packages_of_the_course.pth").write_text(here)

    # the kernel that Jupyter starts there
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_atomically(folder / "kernels" / "python3" / "kernel.json", json.dumps(spec))
    return folder / "kernels"


EXAMPLES = """examples:
  python notebooks/build.py generate                 make every notebook anew
  python notebooks/build.py generate 02              make those of lesson 02
  python notebooks/build.py course --out /tmp/run    run the course, write the notebooks there
  python notebooks/build.py check                    name what is out of date
  KIN_REPO=https://example.org/fork.git python notebooks/build.py colab 01
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    # a line for each verb, and its options
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, summary_line in (
        ("generate", "write the notebooks and their solved twins, executed"),
        ("course", "execute the lessons in order, for the book"),
        (
            "check",
            "name each notebook that differs from its source, each rule that a lesson breaks",
        ),
        ("overview", "print how many cells, words and exercises each lesson has"),
        ("grade", "run notebooks of students anew and print which exercises are correct"),
        ("join", "write what nbval runs: each lesson, and its solutions behind it"),
        ("colab", "run each setup cell where the course is not installed"),
    ):
        sub = verbs.add_parser(verb, help=summary_line, description=summary_line)
        if verb == "grade":
            sub.add_argument("notebook", nargs="+", type=Path, help="of a student")
        elif verb not in ("check", "overview", "join"):
            sub.add_argument("lesson", nargs="*", help="name or number; all when none is given")
        if verb == "course":
            sub.add_argument(
                "--out",
                type=Path,
                default=ROOT / "build" / "lessons",
                help="folder of the executed lessons (default: build/lessons)",
            )
    return top


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(arguments)
    # for the kernels: the order of sets is the same each time, and TensorFlow is quiet
    os.environ.setdefault("PYTHONHASHSEED", "0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    course = Course(root)
    try:
        if options.verb == "generate":
            generate(course, options.lesson)
        elif options.verb == "course":
            run_course(course, options.lesson, options.out)
        elif options.verb == "check":
            check(course)
        elif options.verb == "overview":
            overview(course)
        elif options.verb == "grade":
            grade(course, options.notebook)
        elif options.verb == "join":
            join(course)
        else:
            colab(course, options.lesson)
    except (BuildError, OSError) as error:  # OSError: no room, no permission; it names the file
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
