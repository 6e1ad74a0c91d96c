"""The builder, on lessons of a few tiny cells; the last test looks at the real ones."""

import json
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import build

ROOT = Path(__file__).resolve().parents[2]

LESSON = """\
# %% [markdown]
# # A tiny lesson
#
# What it is about.

# %%
# SETUP

# %%
def double(x):
    # STUB: return None
    # BEGIN SOLUTION
    return 2 * x
    # END SOLUTION

# %%
print("exercises.check(double)")

# %%
# BEGIN SOLUTION
seven = 7
# END SOLUTION
double(3)

# %%
print("exercises.check(7)")

# %%
# SOLUTION CHECK
assert double(3) == 6 and seven == 7

# %% [markdown]
# <!-- SOLUTION -->
# Doubling is adding a number to itself.

# %%
import sys

print("to standard error", file=sys.stderr)
print("10 %\\r20 %")
print("Key result: 42 of 42")
object()
"""


def checkout(root):
    """A checkout with one lesson."""
    source = root / "notebooks" / "source"
    source.mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/some/where"\n'
    )
    (source / "_setup.py").write_text('repository = "{repository}"\nsettings = {"a": 1}\n')
    (source / "01_tiny.py").write_text(LESSON)
    return build.Course(root)


@pytest.fixture
def course(tmp_path):
    """A checkout of its own for a test that changes it."""
    return checkout(tmp_path)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A checkout whose notebooks have been run."""
    course = checkout(tmp_path_factory.mktemp("generated"))
    build.generate(course)
    return course


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def rewrite(course, old, new):
    path = course.source / "01_tiny.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def pretend_executed(course):
    """Write both notebooks of each lesson as if they had been run, with no output."""
    for lesson in course.lessons():
        for solved in (False, True):
            path = course.notebook(lesson, solved)
            notebook = build.normalise(build.compose(course, lesson, solved))
            build.write_atomically(path, build.serialise(course, notebook, path.name))


def test_students_get_the_stub_and_no_trace_of_the_solution(course):
    shown = sources(build.compose(course, "01_tiny", solved=False))
    assert "def double(x):\n    return None" in shown
    assert "...  # your code here\ndouble(3)" in shown
    text = "\n".join(shown)
    assert not any(word in text for word in ("SOLUTION", "STUB", "2 * x", "seven", "Doubling"))


def test_solved_twin_has_the_solution_the_checks_and_no_markers(course):
    shown = sources(build.compose(course, "01_tiny", solved=True))
    assert "def double(x):\n    return 2 * x" in shown
    assert "seven = 7\ndouble(3)" in shown
    assert any(text.startswith("# SOLUTION CHECK\nassert") for text in shown)
    assert any("Doubling is adding" in text for text in shown)
    assert not any(mark in text for text in shown for mark in (build.BEGIN, build.END, build.STUB))


@pytest.mark.parametrize(
    ("source", "blamed"),
    [
        ("# BEGIN SOLUTION\nx = 1", "# BEGIN SOLUTION"),
        ("x = 1\n# END SOLUTION", "# END SOLUTION"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n# END SOLUTION", "# BEGIN SOLUTION"),
        ("# STUB: x = 0\ny = 1", "# STUB:"),
        ("# STUB: x = 0", "# STUB:"),
    ],
)
def test_marker_without_its_partner_is_refused(source, blamed):
    with pytest.raises(build.BuildError, match=blamed):
        build.split_exercise(source, solved=True)


def test_stub_keeps_its_own_indentation():
    lines = ["# STUB: if x:", "# STUB:     pass", "# BEGIN SOLUTION", "y", "# END SOLUTION"]
    source = "\n".join("    " + line for line in lines)
    assert build.split_exercise(source, solved=False) == "    if x:\n        pass"


def test_setup_cell_is_the_shared_text_with_the_repository_in_it(course):
    shown = sources(build.compose(course, "01_tiny", solved=False))
    assert shown[1] == 'repository = "https://github.com/some/where"\nsettings = {"a": 1}'


@pytest.mark.parametrize(("solved", "path"), [(False, ""), (True, "solutions/")])
def test_badges_stand_between_title_and_text_and_open_that_notebook(course, solved, path):
    title, line, text = sources(build.compose(course, "01_tiny", solved))[0].split("\n\n")
    assert (title, text) == ("# A tiny lesson", "What it is about.")
    place = f"some/where/blob/main/notebooks/{path}01_tiny.ipynb"
    assert f"](https://colab.research.google.com/github/{place}) " in line
    assert line.endswith(f"](https://kaggle.com/kernels/welcome?src=https://github.com/{place})")


def test_lesson_without_a_title_is_refused_by_name(course):
    rewrite(course, "# # A tiny lesson", "# ## A tiny lesson")
    with pytest.raises(build.BuildError, match="01_tiny: cell 1"):
        build.compose(course, "01_tiny", solved=False)


def test_lessons_are_found_by_name_number_and_path(course):
    (course.source / "02_next.py").write_text(LESSON)
    assert course.lessons() == ["01_tiny", "02_next"]
    for word in ("02", "02_next", "notebooks/source/02_next.py"):
        assert course.lessons([word]) == ["02_next"]
    with pytest.raises(build.BuildError, match="no lesson is called 03"):
        course.lessons(["03"])


def test_generating_again_gives_the_same_bytes_and_check_agrees(generated):
    paths = [generated.notebook("01_tiny", solved) for solved in (False, True)]
    before = [path.read_bytes() for path in paths]
    build.generate(generated, ["01"])
    assert [path.read_bytes() for path in paths] == before
    assert build.problems(generated) == []
    names = sorted(path.name for path in generated.notebooks.iterdir())
    assert names == ["01_tiny.ipynb", "solutions", "source"]


def test_generated_outputs_are_normalised(generated):
    notebook = nbformat.read(generated.notebook("01_tiny", solved=True), as_version=4)
    assert notebook.metadata == build.METADATA
    assert [cell.id for cell in notebook.cells] == [f"c00{n}" for n in range(1, 10)]
    stream, result = notebook.cells[-1].outputs
    assert stream.text == "20 %\nKey result: 42 of 42\n"
    assert result.data["text/plain"] == "<object at 0x...>"
    assert [cell.execution_count for cell in build.code_cells(notebook)] == [1, 2, 3, 4, 5, 6, 7]
    assert notebook.cells[4].outputs[0].execution_count == 4


def test_joined_notebook_has_each_solution_behind_the_check_of_the_students(generated):
    left_over = generated.root / "build" / "joined" / "09_old.ipynb"
    build.write_atomically(left_over, "{}")
    assert build.main(["join"], root=generated.root) == 0
    paths = [generated.notebook("01_tiny", solved) for solved in (False, True)]
    student, twin = (build.code_cells(nbformat.read(path, as_version=4)) for path in paths)
    joined = nbformat.read(left_over.with_name("01_tiny.ipynb"), as_version=4)
    nbformat.validate(joined)
    expected = [
        *student[:3],  # setup, the exercise as it comes, its check
        *twin[1:3],  # its solution, and the check again
        *student[3:5],
        *twin[3:5],
        student[5],
        twin[5],  # the solutions asserted, though it stood before
    ]
    assert [cell.source for cell in joined.cells] == [cell.source for cell in expected]
    assert [cell.outputs for cell in joined.cells] == [cell.outputs for cell in expected]
    assert len({cell.id for cell in joined.cells}) == len(joined.cells)
    assert not left_over.exists()


def test_lesson_without_exercises_is_joined_with_nothing(course):
    rewrite(course, LESSON[LESSON.index("def double") :], "print(1)\n")
    student, twin = (build.compose(course, "01_tiny", solved) for solved in (False, True))
    cells = build.joined_cells(student, twin)
    assert [cell.source for cell in cells] == [c.source for c in build.code_cells(student)]


def test_notebooks_out_of_date_are_not_joined(course, capsys):
    assert build.main(["join"], root=course.root) == 1
    assert "notebooks/01_tiny.ipynb: it is missing" in capsys.readouterr().err


def test_widgets_are_not_kept():
    widget = new_output("display_data", {build.WIDGET: {}, "text/plain": "0%"})
    picture = new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})
    assert build.tidy_outputs([widget, picture]) == [picture]


def test_pictures_of_real_photos_are_not_kept_but_what_was_printed_is(course):
    notebook = build.compose(course, "01_tiny", solved=True)
    real, other = build.code_cells(notebook)[:2]
    real.source = "# REAL PHOTO: not kept\nshow(photo)"
    drawn = new_output("display_data", {"image/jpeg": "AAAA", "text/plain": "<Figure>"})
    printed = new_output("stream", name="stdout", text="1 face")
    real.outputs, other.outputs = [drawn, printed], [drawn]
    build.without_real_photos(notebook)
    assert real.outputs == [printed] and other.outputs == [drawn]


def test_course_writes_what_it_ran_and_a_table(course, capsys):
    out = course.root / "build" / "lessons"
    build.run_course(course, [], out)
    assert "42 of 42" in (out / "01_tiny.ipynb").read_text()
    assert json.loads((out / "01_tiny.json").read_text())["seconds"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("01_tiny ... ") and lines[0].endswith("42 of 42")
    assert lines[2].split() == ["lesson", "seconds", "key", "result"]
    assert lines[3].split()[0] == "01_tiny" and lines[3].endswith("42 of 42")
    assert lines[4].split()[0] == "total"


STUDENT = """\
# %%
from utils import exercises
from utils.exercises import verdicts

@verdicts.exercise
def double(answer):
    verdicts.expect(answer(3), 6, "twice the number")

def double(x):
    return 3 * x

# %%
1 / 0

# %%
exercises.check(double)
"""


def test_students_notebooks_are_graded_by_running_them_anew(course, tmp_path, capsys):
    wrong, right, empty = (tmp_path / f"{name}.ipynb" for name in ("anna", "ben", "cleo"))
    wrong.write_text(nbformat.writes(jupytext.reads(STUDENT, fmt="py:percent")))
    right.write_text(wrong.read_text().replace("3 * x", "2 * x"))
    empty.write_text(nbformat.writes(new_notebook(cells=[new_code_cell("1")])))
    assert build.main(["grade", str(wrong), str(right), str(empty)], root=course.root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{wrong}: 0 of 1 exercises are correct",
        "  double: not yet: twice the number (got 9, expected 6)",
        "  the cell `1 / 0` failed",
        f"{right}: 1 of 1 exercises are correct",
        "  the cell `1 / 0` failed",
        f"{empty}: 0 of 0 exercises are correct",
    ]


def test_overview_counts(course, capsys):
    build.overview(course)
    assert capsys.readouterr().out.splitlines()[1].split() == ["01_tiny", "6", "14", "2", "0", "0"]


def test_failing_cell_stops_the_course_with_lesson_cell_and_error(course, capsys):
    rewrite(course, "double(3)\n\n# %%", "\n1 / 0\n\n# %%")
    assert build.main(["course", "--out", str(course.root / "pages")], root=course.root) == 1
    message = capsys.readouterr().err
    assert message.strip() == (
        "01_tiny: code cell 4 (`...  # your code here`) failed: "
        "ZeroDivisionError: division by zero"
    )


def test_kernel_that_dies_is_named_with_its_last_words(course, capsys):
    rewrite(course, "double(3)\n\n", "import os\nos.write(2, b'out of room')\nos._exit(1)\n\n")
    with pytest.raises(build.BuildError, match="01_tiny: .*out of room"):
        build.run_course(course, [], course.root / "pages")


def test_key_result_is_the_last_line_that_says_so():
    text = "Key result: old\nnoise\nKey result:  AUC 0.81 \nnot a Key result: no\n"
    cell = new_code_cell("x", outputs=[new_output("stream", text=text)])
    assert build.key_result(new_notebook(cells=[cell]), "01_tiny") == "AUC 0.81"
    with pytest.raises(build.BuildError, match="01_tiny"):
        build.key_result(new_notebook(cells=[new_code_cell("x")]), "01_tiny")


def test_notebook_over_one_megabyte_is_refused_by_name(course):
    notebook = new_notebook(cells=[new_markdown_cell("x" * build.SIZE_LIMIT)])
    with pytest.raises(build.BuildError, match=r"01_tiny.ipynb: 1,000,\d+ bytes"):
        build.serialise(course, notebook, "01_tiny.ipynb")


@pytest.mark.parametrize("kind", ["stream", "display_data"])
def test_output_that_names_a_private_folder_is_refused_by_name(course, kind):
    said = f"saved to {course.root}/build/x.png"
    output = (
        new_output(kind, text=said)
        if kind == "stream"
        else new_output(kind, {"text/html": f"<b>{said}</b>"})
    )
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[output])])
    with pytest.raises(build.BuildError, match="01_tiny.ipynb: an output names the folder"):
        build.serialise(course, notebook, "01_tiny.ipynb")


def test_folder_whose_name_only_begins_alike_and_pictures_are_no_leak(course):
    outputs = [
        new_output("stream", text=f"{course.root}-elsewhere"),
        new_output("display_data", {"image/png": f"{course.root}/"}),
    ]
    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs)])
    assert build.leaked_path(notebook, [course.root, Path("/")]) is None


def edit_source(notebook):
    notebook["cells"][2]["source"] = "def double(x):\n    return 3 * x"


def drop_cell(notebook):
    del notebook["cells"][2]


def forget_execution(notebook):
    notebook["cells"][2]["execution_count"] = None


def keep_error(notebook):
    notebook["cells"][2]["outputs"] = [
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    ]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edit_source, "cell 3 (`def double(x):`) differs"),
        (drop_cell, "cells, and the source gives"),
        (forget_execution, "was not executed"),
        (keep_error, "ended in an error"),
    ],
)
def test_check_names_a_notebook_edited_by_hand(course, edit, reason):
    pretend_executed(course)
    path = course.notebook("01_tiny", solved=True)
    notebook = json.loads(path.read_text())
    edit(notebook)
    path.write_text(json.dumps(notebook))
    [problem] = build.problems(course)
    assert problem.startswith("notebooks/solutions/01_tiny.ipynb: ")
    assert reason in problem


def test_check_names_missing_notebooks_and_those_without_a_source(course, capsys):
    pretend_executed(course)
    course.notebook("01_tiny", solved=False).rename(course.notebooks / "09_old.ipynb")
    assert build.main(["check"], root=course.root) == 1
    message = capsys.readouterr().err
    assert "notebooks/01_tiny.ipynb: it is missing" in message
    assert "notebooks/09_old.ipynb: it has no source" in message


def test_outputs_may_differ_without_check_minding(course):
    pretend_executed(course)
    path = course.notebook("01_tiny", solved=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [new_output("stream", text="another machine")]
    nbformat.write(notebook, path)
    assert build.problems(course) == []


def test_notebook_saved_under_an_editors_kernel_agrees_and_is_joined_under_python3(course):
    pretend_executed(course)
    path = course.notebook("01_tiny", solved=False)
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"] = {
        "display_name": "kinship (3.11)",
        "language": "python",
        "name": "kinship-venv",
    }
    notebook["metadata"]["language_info"]["version"] = "3.11.7"
    notebook["cells"][2]["metadata"] = {"scrolled": True, "vscode": {"languageId": "python"}}
    path.write_text(json.dumps(notebook))
    assert build.problems(course) == []
    assert build.main(["join"], root=course.root) == 0
    joined = nbformat.read(course.root / "build" / "joined" / "01_tiny.ipynb", as_version=4)
    assert joined.metadata == build.METADATA


# --- what students have written -----------------------------------------------------------------


def answer(course):
    """Solve the exercise in the student's notebook, as in an editor; the text of the file."""
    path = course.notebook("01_tiny", solved=False)
    notebook = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in notebook.cells if "return None" in cell.source]
    cell.source = "def double(x):\n    return x + x  # my answer"
    nbformat.write(notebook, path)
    return path.read_text()


def test_answers_are_kept_before_a_notebook_is_made_anew_and_the_copy_is_named(course, capsys):
    pretend_executed(course)
    written = answer(course)
    build.generate(course)
    copy = course.notebooks / "kept" / "notebooks-01_tiny-1.ipynb"
    assert copy.read_text() == written
    assert "notebooks/kept/notebooks-01_tiny-1.ipynb" in capsys.readouterr().out
    assert "my answer" not in course.notebook("01_tiny", solved=False).read_text()
    # a second time: the first copy stays
    again = answer(course)
    build.generate(course)
    assert copy.read_text() == written
    assert copy.with_name("notebooks-01_tiny-2.ipynb").read_text() == again
    assert build.problems(course) == []


def test_what_git_has_or_the_source_gives_needs_no_copy(course):
    pretend_executed(course)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=course.root, check=True)
    rewrite(course, "double(3)\n\n", "double(4)\n\n")  # an author's change
    build.generate(course)
    build.generate(course)
    assert not (course.notebooks / "kept").exists()


def test_notebook_that_cannot_be_read_is_kept_as_it_is(course):
    path = course.notebook("01_tiny", solved=True)
    path.parent.mkdir()
    path.write_text("<<<<<<< mine\n{}\n")
    build.generate(course)
    copy = course.notebooks / "kept" / "solutions-01_tiny-1.ipynb"
    assert copy.read_text() == "<<<<<<< mine\n{}\n"


# --- broken files -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "join"])
def test_merge_conflict_in_a_notebook_is_named_with_its_line(course, capsys, verb):
    pretend_executed(course)
    path = course.notebook("01_tiny", solved=False)
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first}\n<<<<<<< HEAD\n=======\n>>>>>>> theirs\n{rest}")
    assert build.main([verb], root=course.root) == 1
    message = capsys.readouterr().err
    assert (
        "notebooks/01_tiny.ipynb: it has an unresolved merge conflict in line 2; "
        "keep one of the two versions." in message
    )
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "{}", '{"cells": 3}', '{"nbformat": 4, "cells": [{}]}']
)
def test_file_that_is_no_notebook_is_named(course, text):
    pretend_executed(course)
    course.notebook("01_tiny", solved=False).write_text(text)
    [problem] = build.problems(course)
    assert problem.startswith("notebooks/01_tiny.ipynb: it is not a notebook that Jupyter opens")


def test_notebook_that_is_not_utf_8_is_named(course):
    pretend_executed(course)
    course.notebook("01_tiny", solved=False).write_bytes(b'{"a": "\xe9"}')
    assert build.problems(course) == ["notebooks/01_tiny.ipynb: it is not text in UTF-8 (byte 8)"]


@pytest.mark.parametrize("verb", ["check", "generate", "course", "join"])
def test_merge_conflict_in_a_source_stops_every_verb(course, capsys, verb):
    rewrite(course, "def double(x):", "<<<<<<< HEAD\ndef double(x):")
    options = ["--out", str(course.root / "pages")] if verb == "course" else []
    assert build.main([verb, *options], root=course.root) == 1
    assert "01_tiny.py has an unresolved merge conflict in line 10" in capsys.readouterr().err


def test_cells_that_talk_about_merge_conflicts_or_draw_lines_are_none(tmp_path):
    path = tmp_path / "x.py"
    text = "a <<<<<<< b\n=======\n<<<<<<<<<< x\nprint('>>>>>>> theirs')\n"
    path.write_text(text)
    assert build.read_text(path) == text


@pytest.mark.parametrize(
    ("project", "sentence"),
    [
        ('[project]\nname = "x"\n', "no `Repository` below [project.urls]"),
        ("[project\n", "is not valid TOML"),
    ],
)
def test_project_file_without_an_address_is_named(course, capsys, project, sentence):
    (course.root / "pyproject.toml").write_text(project)
    assert build.main(["check"], root=course.root) == 1
    assert sentence in capsys.readouterr().err


# --- forks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/me/fork",
        "https://github.com/me/fork/",
        "https://github.com/me/fork.git",
        "https://github.com/me/fork.git/",
        "https://www.github.com/me/fork",
        "http://github.com/me/fork",
        "git+https://github.com/me/fork.git",
        "https://token@github.com/me/fork.git",
        "git@github.com:me/fork.git",
        "ssh://git@github.com/me/fork.git",
        "git://github.com/me/fork.git",
        "https://github.com/me/fork/tree/main",
        "github.com/me/fork",
    ],
)
def test_every_way_to_write_a_fork_gives_its_badge_and_an_address_to_clone(course, address):
    (course.root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    assert course.repository == "https://github.com/me/fork"
    first, setup = sources(build.compose(course, "01_tiny", solved=False))[:2]
    assert "/github/me/fork/blob/main/notebooks/01_tiny.ipynb)" in first
    assert setup.startswith('repository = "https://github.com/me/fork"')


def test_fork_whose_name_has_dots_keeps_them(course):
    address = "https://github.com/me/my.git.course"
    (course.root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    assert course.repository == address


def test_fork_elsewhere_has_no_badge_because_colab_could_not_open_it(course):
    address = "https://gitlab.com/me/fork.git"
    (course.root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    first, setup = sources(build.compose(course, "01_tiny", solved=False))[:2]
    assert first == "# A tiny lesson\n\nWhat it is about."
    assert address in setup


# --- the rules of a lesson ----------------------------------------------------------------------

EXERCISE = """\
# %% [markdown]
# **Exercise {0}. Another.** Return {0}.

# %%
def answer_{0}():
    # BEGIN SOLUTION
    return {0}
    # END SOLUTION

# %%
exercises.check(answer_{0})

"""
RULED = f"""\
# %% [markdown]
# # Lesson 08: A lesson more
#
# **What you will learn**

# %%
# SETUP

# %% [markdown]
# ## 1. A section
#
# **Guess first.** Which number?

# %%
print("Key result: 1")

{EXERCISE.format(1)}
{EXERCISE.format(2)}
{EXERCISE.format(3)}
# %% [markdown]
# **Guess first.** And now?

# %% [markdown]
# ## What we saw

# %% [markdown]
# ## A larger exercise

{EXERCISE.format(4)}
# %%
exercises.report()

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
"""


@pytest.fixture
def ruled(course):
    """A checkout with an eighth lesson that keeps every rule."""
    (course.source / "01_tiny.py").unlink()
    (course.source / "08_more.py").write_text(RULED)
    (course.root / "README.md").write_text("| [08 More](notebooks/08_more.ipynb) |\n")
    return course


def test_lesson_that_keeps_the_rules_has_no_fault(ruled):
    assert build.faults(ruled, "08_more") == []
    pretend_executed(ruled)
    assert build.main(["check"], root=ruled.root) == 0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("# # Lesson 08: A", "# # Lesson 8: A", "it must open with `# Lesson 08: ...`"),
        ("**What you will learn**", "You learn", "`**What you will learn**` is missing"),
        ("# ## What we saw", "# # What we saw", "`## What we saw` is missing"),
        ("# ## 1. A section", "# ## 1. A\n#\n# # B", "2 titles; `# B` must be a section"),
        ("# SETUP\n", "pass\n", "one code cell that holds only `# SETUP`"),
        (EXERCISE.format(2), "", "in the sections stand fewer than 3 questions"),
        (EXERCISE.format(4), "", "below `## A larger exercise` stand fewer than 1 questions"),
        ("# **Exercise 2. ", "# **Exercise 5. ", "have the numbers [1, 5, 3, 4]; count from 1"),
        (
            "    # BEGIN SOLUTION\n    return 2\n    # END SOLUTION",
            "",
            "4 exercises, but 3 `# BEGIN SOLUTION`",
        ),
        ("exercises.check(answer_3)", "answer_3", "4 exercises, but 3 `exercises.check(`"),
        ("\nexercises.report()\n", "\n", "do not end in a cell with `exercises.report()`"),
        ("# SOLUTION CHECK\n", "", "do not end in a cell with `# SOLUTION CHECK`"),
        ("# **Guess first.** And", "# And", "it has 1 `**Guess first.**`, not 2 or more"),
        ('print("Key', "1\n\n# %%\n" * 40 + 'print("Key', "51 code cells; 45 are allowed"),
        ('print("Key', "x\n" * 25 + 'print("Key', "has 26 lines; 25 are allowed"),
        ('print("Key', "x\n" * 25 + 'print("Key', "the code cell `x`"),
    ],
)
def test_check_says_which_rule_a_lesson_breaks(ruled, capsys, old, new, sentence):
    assert old in RULED
    (ruled.source / "08_more.py").write_text(RULED.replace(old, new))
    assert build.main(["check"], root=ruled.root) == 1
    message = capsys.readouterr().err
    assert f"08_more: {sentence}" in message or sentence in message
    assert "`--help` prints them" in message


def test_parts_in_another_order_are_named_with_the_right_one(ruled):
    later, exercise = "## What we saw", "## A larger exercise"
    swapped = RULED.replace(later, "## Later").replace(exercise, later)
    (ruled.source / "08_more.py").write_text(swapped.replace("## Later", exercise))
    assert any(
        "`## A larger exercise` stands too early" in f for f in build.faults(ruled, "08_more")
    )


def test_long_cells_everywhere_are_named(ruled):
    long = RULED.replace("    return", "    pass\n" * 7 + "    return")
    long = long.replace("exercises.check(", "pass\n" * 7 + "exercises.check(")
    (ruled.source / "08_more.py").write_text(long)
    assert any("more than half" in fault for fault in build.faults(ruled, "08_more"))


def test_lesson_that_the_readme_lacks_is_named(ruled):
    (ruled.root / "README.md").write_text("")
    [fault] = build.faults(ruled, "08_more")
    assert "README.md has no row with [...](notebooks/08_more.ipynb)" in fault


@pytest.mark.parametrize("name", ["8_more.py", "08-more.py", "more.py"])
def test_source_that_is_not_called_like_a_lesson_is_named(ruled, capsys, name):
    pretend_executed(ruled)
    (ruled.source / name).write_text(RULED)
    assert build.main(["check"], root=ruled.root) == 1
    assert f"notebooks/source/{name}: a lesson is called NN_name.py" in capsys.readouterr().err


def test_lesson_is_found_by_its_number_without_the_nought(ruled):
    assert ruled.lessons(["8"]) == ["08_more"]


def test_generate_says_at_once_what_check_will_refuse(ruled, capsys):
    unchecked = RULED.replace("exercises.check(", "print(").replace("exercises.report()", "1")
    (ruled.source / "08_more.py").write_text(unchecked)
    assert build.main(["generate", "08"], root=ruled.root) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("08_more: it has 4 exercises, but") and "`check` will refuse" in first


def test_generate_refuses_what_course_would_refuse(course, capsys):
    rewrite(course, "Key result: 42", "42")
    assert build.main(["generate"], root=course.root) == 1
    assert "01_tiny: no output line starts with `Key result:`" in capsys.readouterr().err
    assert not course.notebook("01_tiny", solved=False).exists()


def test_rules_of_a_lesson_stand_in_the_help():
    text = build.parser().format_help()
    assert "Rules of a lesson" in text
    for part in build.PARTS[1:]:
        assert f"`{part.strip()}" in text
    assert f"at most {build.USUAL_LINES} lines" in text and str(build.MOST_LINES) in text


def test_committed_notebooks_agree_with_their_sources():
    assert build.problems(build.Course(ROOT)) == []


@pytest.mark.parametrize("lesson", build.Course(ROOT).lessons())
def test_committed_lessons_keep_the_rules(lesson):
    assert build.faults(build.Course(ROOT), lesson) == []
    assert build.strays(build.Course(ROOT)) == []
