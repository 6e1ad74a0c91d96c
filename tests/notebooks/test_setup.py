"""The setup cell in an empty environment: a small course to clone, and a stub for pip.

``make colab`` runs it with the real pip.
"""

import os
import subprocess
import venv
from pathlib import Path

import pytest

import build

ROOT = Path(__file__).resolve().parents[2]

COURSE = {
    "pyproject.toml": "",
    "utils/__init__.py": "",
    "utils/answers/kinship.py": "",
    "utils/plots.py": "def show_as_jpeg(): pass\ndef course_map(lesson): assert lesson == '01'\n",
    "utils/settings.py": "import utils\ndef report(): print('course in', utils.__path__[0])\n",
}
# `pip install -q -e FOLDER`: fails as long as there is a file called `offline`
PIP = """\
import pathlib, site, sys
if pathlib.Path("offline").exists():
    sys.exit("ERROR: Could not find a version that satisfies the requirement keras")
assert sys.argv[1:4] == ["install", "-q", "-e"], sys.argv
folder = pathlib.Path(sys.argv[4]).resolve()
(pathlib.Path(site.getsitepackages()[0]) / "course.pth").write_text(f"{folder}\\n")
"""


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Desk:
    """A folder to work in, with a Python that has no packages, and a repository to clone."""

    def __init__(self, root):
        self.folder = root / "content"
        self.folder.mkdir()
        self.course = self.folder / "kinship-course"
        self.repository = root / "repository"
        write(self.repository, COURSE)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
            subprocess.run([*git, *command], cwd=self.repository, check=True)
        venv.create(root / "environment", with_pip=False, symlinks=True)
        self.python = root / "environment" / "bin" / "python"
        write(root / "stubs", {"pip/__init__.py": "", "pip/__main__.py": PIP})
        self.environment = {
            **os.environ,
            "KIN_REPO": self.repository.as_uri(),
            "PYTHONPATH": str(root / "stubs"),
        }

    def run(self):
        """Run the cell in a new kernel."""
        return subprocess.run(
            [self.python, "-c", build.setup_text(build.Course(ROOT), "01_tiny")],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def works(self):
        """Whether the cell ends well, with the clone's `utils`."""
        done = self.run()
        expected = (0, f"course in {self.course / 'utils'}\n", "")
        assert (done.returncode, done.stdout, done.stderr) == expected
        assert not (self.folder / "kinship-course.part").exists()
        return True


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_setup_cell_fetches_the_course_and_runs_again(desk):
    assert desk.works()
    assert desk.works()


def test_setup_cell_goes_on_after_a_failed_installation(desk):
    (desk.folder / "offline").touch()
    done = desk.run()
    assert done.returncode == 1
    assert "Could not find a version that satisfies the requirement keras" in done.stderr
    (desk.folder / "offline").unlink()
    assert desk.works()


def test_setup_cell_says_what_git_said_and_goes_on_when_the_network_is_back(desk):
    away = desk.repository.rename(desk.repository.with_name("away"))
    done = desk.run()
    assert done.returncode == 1 and "fatal: " in done.stderr
    assert not desk.course.exists()
    away.rename(desk.repository)
    assert desk.works()


@pytest.mark.parametrize(
    "left_over",
    [
        {"kinship-course.part/.git/HEAD": "x", "kinship-course.part/utils/__init__.py": ""},
        {"kinship-course/.git/HEAD": "x"},
        {"kinship-course/.git/HEAD": "x", "kinship-course/pyproject.toml": ""},
    ],
)
def test_setup_cell_starts_anew_after_half_a_clone(desk, left_over):
    write(desk.folder, left_over)
    assert desk.works()


def test_setup_cell_uses_a_clone_that_was_never_installed(desk):
    desk.repository.rename(desk.course)  # nothing is left to clone
    assert desk.works()


def test_setup_cell_leaves_a_folder_of_yours_alone(desk):
    write(desk.course, {"my answers.txt": "42"})
    assert desk.run().returncode == 1
    assert (desk.course / "my answers.txt").read_text() == "42"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"utils.py": "raise SystemExit"}, "utils.py"),
        ({"utils/__init__.py": "raise SystemExit"}, "utils"),
        ({"utils/notes.txt": ""}, "utils"),
        ({"utils/settings.py": "", "utils/plots.py": ""}, "utils"),
    ],
)
@pytest.mark.parametrize("installed", [False, True])
def test_setup_cell_names_a_stranger_called_utils(desk, files, place, installed):
    if installed:
        assert desk.works()
    write(desk.folder, files)
    done = desk.run()
    # a folder without code stands behind an installed course
    if installed and place == "utils" and "utils/__init__.py" not in files:
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {desk.folder / place} is not the course's `utils`, but stands before it: "
        "give it another name, restart the kernel, and run this cell again."
    )
    assert desk.course.exists() == installed
