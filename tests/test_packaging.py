"""pyproject.toml, the two locks and environment.yml say the same thing."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from apps.flask_app import DEFAULTS
from apps.flask_app import __main__ as server

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ["requirements.txt", "requirements-test.txt"]
PYTHONS = ["3.11", "3.12", "3.13"]
PLATFORMS = ["linux", "darwin"]
NEEDED = {
    "jupyter",
    "tensorflow",
    "keras-vggface",
    "mtcnn",
    "matplotlib",
    "pandas",
    "seaborn",
    "pytest",
    "nbval",
}


def lock_entries(name):
    """(requirement, hashes) for each entry of a lock, whose lines go on after a backslash."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            yield Requirement(requirement), hashes


def pins(name):
    """The one version of each package in a lock."""
    versions = {}
    for requirement, _ in lock_entries(name):
        [specifier] = requirement.specifier
        assert specifier.operator == "==", f"{name}: {requirement} is not an exact pin"
        package = canonicalize_name(requirement.name)
        assert package not in versions, f"{name} pins {package} twice"
        versions[package] = specifier.version
    return versions


def direct(*extras):
    """The course's own dependencies with those of some extras; an extra may name another one."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    requirements = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    requirements.pop(PROJECT["name"], None)
    return requirements


def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def conda_pip_lines():
    [section] = [part for part in environment()["dependencies"] if isinstance(part, dict)]
    return section["pip"]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.txt", direct("build")),
        ("requirements-test.txt", direct("build", "test")),
    ],
)
def test_every_direct_dependency_is_locked_within_its_bound(lock, requirements):
    locked = pins(lock)
    for name, requirement in requirements.items():
        assert name in locked, f"{lock} lacks {name}; run `make lock`"
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement


def test_the_packages_the_course_promises_are_in_its_lock():
    assert set(direct("build")) >= NEEDED


def test_the_test_extra_brings_all_other_extras():
    assert "kinship-course[build,scale,search]" in PROJECT["optional-dependencies"]["test"]


def imported_packages(folder):
    """The packages that the files of a folder import, wherever they do."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.split(".")[0]


@pytest.mark.parametrize("folder", ["utils", "apps"])
def test_what_only_builds_and_tests_need_is_not_imported_by_the_course(folder):
    only_build = {name.replace("-", "_") for name in set(direct("build", "test")) - set(direct())}
    assert not (only_build | {"nbformat", "jupyter_client"}) & set(imported_packages(folder))


@pytest.mark.parametrize("platform", ["colab", "kaggle"])
def test_the_course_takes_the_versions_that_a_platform_has(platform):
    """``.ci/platform`` installs them; here their bounds are read."""
    lines = (ROOT / ".ci" / "platforms" / f"{platform}.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pinned}
    for name, requirement in direct().items():
        if name in versions:
            assert requirement.specifier.contains(versions[name]), f"{requirement} on {platform}"
    assert {"tensorflow", "keras", "numpy", "pandas", "nbconvert", "nbclient"} <= set(versions)


def test_test_lock_holds_the_course_lock_with_equal_pins():
    course, test = pins("requirements.txt"), pins("requirements-test.txt")
    assert course.items() <= test.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_carries_sha256_hashes(lock):
    for requirement, hashes in lock_entries(lock):
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("file", [*LOCKS, "environment.yml"])
def test_no_address_or_path_is_written_down(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    unwanted = r"://|file:|--(extra-)?index-url|--find-links|\s@\s|/(home|root|tmp|Users)/"
    assert not re.search(unwanted, text)


@pytest.mark.parametrize("lock", LOCKS)
def test_tensorflow_is_the_plain_one(lock):
    names = set(pins(lock))
    assert "tensorflow" in names
    assert not {"tensorflow-cpu", "tensorflow-macos", "tf-nightly", "tensorflow-intel"} & names


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_direct_dependency_is_installed_on_each_python_and_platform(python, platform):
    place = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
        "platform_system": platform.capitalize(),
        "os_name": "posix",
    }
    installed = {
        canonicalize_name(requirement.name)
        for requirement, _ in lock_entries("requirements-test.txt")
        if requirement.marker is None or requirement.marker.evaluate(place)
    }
    assert set(direct("build", "test")) <= installed


def test_the_lock_brings_what_the_offline_editable_install_builds_with():
    assert "setuptools" in pins("requirements.txt")


def test_conda_environment_pins_what_the_lock_pins():
    *lines, last = conda_pip_lines()
    listed = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines)
    }
    locked = pins("requirements.txt")
    assert listed == {name: locked[name] for name in direct("build")}
    assert last == "-e ."


def test_conda_environment_uses_a_python_that_the_course_supports():
    [python] = [part for part in environment()["dependencies"] if str(part).startswith("python=")]
    assert python.removeprefix("python=") in PYTHONS
    supported = Requirement(f"x{PROJECT['requires-python']}").specifier
    assert [minor for minor in range(9, 20) if f"3.{minor}.1" in supported] == [11, 12, 13]


def test_the_console_command_is_the_courses_beside_another_package_called_utils(tmp_path):
    stranger = tmp_path / "utils" / "__init__.py"
    stranger.parent.mkdir()
    stranger.write_text("raise SystemExit('not the course')\n")
    command = Path(sys.executable).with_name("kincourse")
    run = subprocess.run(
        [command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{PROJECT['version']}\n", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-c", "from apps import console; console.main(['--version'])"], PROJECT["version"]),
        (["-m", "apps.flask_app", "--help"], "--port"),
    ],
)
def test_apps_and_console_use_the_courses_utils_in_a_folder_with_another_one(
    tmp_path, words, expected
):
    (tmp_path / "utils.py").write_text("raise SystemExit('not the course')\n")
    run = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in run.stdout, run.stderr
    assert "not the course" not in run.stderr


def test_the_console_command_is_started_by_way_of_apps():
    assert PROJECT["scripts"] == {"kincourse": "apps.console:main"}


# --- hosting ------------------------------------------------------------------------------------


def instructions(name):
    """The values of a Dockerfile's lines of this kind; a line may go on after a backslash."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def tracked():
    """Files that a clone holds."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [PurePosixPath(line) for line in listed.splitlines()]


def starts(command):
    """Whether a command line is one that the server understands, without its port's variable."""
    assert command[:3] == ["python", "-m", "apps.flask_app"]
    return server._parser().parse_args(
        [argument.replace("$PORT", "1") for argument in command[3:]]
    )


def test_the_image_is_made_of_files_that_a_clone_has():
    let_in = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    sources = [source for line in instructions("COPY") for source in line.split()[:-1]]
    assert sorted(sources) == sorted(let_in)
    for source in sources:
        assert any(
            path == PurePosixPath(source) or PurePosixPath(source) in path.parents
            for path in tracked()
        )


def test_the_image_runs_without_root_rights_on_a_python_that_the_course_supports():
    assert instructions("USER") == ["kinship"]
    assert re.fullmatch(r"python:(3\.\d+)-slim", instructions("FROM")[0])[1] in PYTHONS
    assert "/readyz" in instructions("HEALTHCHECK")[0]


def test_image_and_procfile_start_the_server_for_others():
    assert starts(json.loads(instructions("ENTRYPOINT")[0])).host == "0.0.0.0"
    process, _, command = (ROOT / "Procfile").read_text().strip().partition(": ")
    assert (
        process == "web"
        and starts(command.split()).host == "0.0.0.0"
        and "--port $PORT" in command
    )


def test_every_setting_that_the_hosting_page_names_exists():
    page = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"KIN_APP_(\w+)", page))
    assert named <= {*DEFAULTS, "TRUSTED_HOSTS"} and len(named) >= 6
