"""What the command line does with a verb's result, and with what goes wrong."""

import gc
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import utils
from utils import __version__
from utils.__main__ import main
from utils.data import datasets
from utils.errors import CourseWarning

ROOT = Path(utils.__file__).parents[1]


def run_module(*arguments, options=()):
    """``python -m utils`` as a process of its own."""
    command = [sys.executable, *options, "-m", "utils", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def imported_packages(process):
    """Top-level packages that a process started with ``-X importtime`` imported."""
    names = (line.rpartition("|")[2].strip() for line in process.stderr.splitlines())
    return {name.partition(".")[0] for name in names}


def test_process_ends_with_the_status_and_the_sentence():
    ended = run_module("weights", "nowhere")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: There is no backbone 'nowhere'; [^\n]+\n", ended.stderr)


def test_help_needs_neither_tensorflow_nor_pandas():
    ended = run_module("--help", options=["-X", "importtime"])
    imported = imported_packages(ended)
    assert ended.stdout.startswith("usage: kincourse") and "argparse" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"}


def test_listing_weights_needs_no_tensorflow():
    ended = run_module("weights", options=["-X", "importtime"])
    assert ended.returncode == 0 and ended.stdout.startswith("encoder ")
    assert not imported_packages(ended) & {"tensorflow", "keras"}


# --- printing -----------------------------------------------------------------------------------


def into(redirection, *arguments, **environment):
    """The same process with a redirection of the shell: its status and what it said of errors."""
    words = shlex.join([sys.executable, "-m", "utils", *map(str, arguments)])
    command = ["bash", "-c", f"{words} {redirection}"]
    variables = {**os.environ, "PYTHONUNBUFFERED": "", **environment}
    return subprocess.run(command, cwd=ROOT, capture_output=True, env=variables)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder of photos that are none, whose names are not UTF-8, not Latin-1, or plain."""
    folder = os.fsencode(tmp_path_factory.mktemp("names"))
    names = [b"caf\xe9.jpg", "Família 家 😀.jpg".encode(), b"plain.jpg"]
    for name in names:
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(b"no photo")
    return [os.fsdecode(os.path.join(folder, name)) for name in names]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_any_name_is_printed_in_any_terminal(strange, encoding):
    ended = into("", "detect", *strange, PYTHONIOENCODING=encoding)
    assert (ended.returncode, ended.stderr.count(b"Traceback")) == (2, 0)
    lines = ended.stdout.splitlines()
    assert [line.startswith(b"error: ") for line in lines] == [True] * 3
    assert b"caf\\udce9.jpg is not an image" in lines[0]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_json_is_json_in_any_terminal(strange, encoding):
    ended = into("", "detect", *strange, "--json", PYTHONIOENCODING=encoding)
    facts = json.loads(ended.stdout.decode(encoding.partition(":")[0]))
    assert [row["photo"] for row in facts["photos"]] == strange


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["weights"], ["weights", "--json"], ["--version"]])
def test_full_output_is_one_sentence(arguments, unbuffered):
    ended = into("> /dev/full", *arguments, PYTHONUNBUFFERED=unbuffered)
    sentence = rb"error: The output cannot be written \(No space left on device\); [^\n]+\n"
    assert ended.returncode == 2 and re.fullmatch(sentence, ended.stderr)


def test_full_stream_of_errors_leaves_the_status():
    assert into("2> /dev/full", "weights", "nowhere").returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["weights"], ["--help"]])
def test_closed_pipe_is_quiet(arguments, unbuffered):
    # what reads ends before anything is written
    reader = "| (exec <&-; true); exit ${PIPESTATUS[0]}"
    ended = into(reader, *arguments, PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_closed_output_is_no_error():
    assert into(">&-", "weights").returncode == 0


def test_pipe_that_is_closed_while_work_is_done_is_quiet(monkeypatch, capsys, families_root):
    def closed(source):
        raise BrokenPipeError

    monkeypatch.setattr(datasets, "load", closed)
    assert main(["audit", "--data", str(families_root)]) == 141
    assert capsys.readouterr() == ("", "")


def test_warnings_of_the_course_are_sentences_and_those_of_others_are_left_out(
    capsys, families, monkeypatch
):
    def load(source):
        warnings.warn("This will be removed.", FutureWarning, stacklevel=1)
        warnings.warn("2 photos are left out.", CourseWarning, stacklevel=1)
        return families

    monkeypatch.setattr(datasets, "load", load)
    for verbose, others in (("", []), ("1", [FutureWarning])):
        monkeypatch.setenv("KIN_VERBOSE", verbose)
        gc.collect()  # what other tests left open is warned of here, not below
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            assert main(["audit", "--data", "anywhere"]) == 0
        assert [warning.category for warning in shown] == others
        assert "warning: 2 photos are left out.\n" in capsys.readouterr().err


# --- arguments ----------------------------------------------------------------------------------


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_interrupt_ends_with_status_130(monkeypatch, capsys, families_root):
    def interrupted(source):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load", interrupted)
    assert main(["audit", "--data", str(families_root)]) == 130
    assert capsys.readouterr().err == "stopped; what was finished is kept\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: VERB"),
        (["train"], "required: WHAT"),
        (["train", "head", "--backbone", "vgg"], "argument --backbone: invalid choice: 'vgg'"),
        (["train", "head", "--steps", "7"], "unrecognized arguments: --steps 7"),
        (["train", "head", "--loss", "pairs"], "unrecognized arguments: --loss pairs"),
        (["train", "encoder", "--h5"], "unrecognized arguments: --h5"),
        (["train", "encoder", "--loss", "triplet"], "argument --loss: invalid choice: 'triplet'"),
        (["train", "encoder", "--precision", "half"], "--precision: invalid choice: 'half'"),
        (["train", "network"], "required: --backbones"),
        (["train", "network", "--backbones", "vgg"], "--backbones: invalid choice: 'vgg'"),
        (["train", "network", "--variant", "sums"], "argument --variant: invalid choice: 'sums'"),
        (["families", "--photos", "many"], "argument --photos: 'many' is not a span such as 1-4"),
        (["families", "--photos", "0-3"], "--photos: '0-3' is not a span from 1 to 99"),
        (["families", "--children", "4-1"], "--children: '4-1' is not a span from 1 to 99"),
        (["families", "--families", "19"], "'19' is not a whole number from 20 to 900"),
        (["families", "--seed", "-1"], "--seed: '-1' is not a whole number from 0 to 4294967295"),
        (["train", "head", "--epochs", "0"], "--epochs: '0' is not a whole number, 1 at least"),
        (["train", "head", "--fold", "7"], "--fold: '7' is not a whole number from 0 to 4"),
        (["train", "head", "--learning-rate", "1e9"], "'1e9' is not a learning rate, above 0"),
        (["train", "head", "--learning-rate", "nan"], "'nan' is not a learning rate, above 0"),
        (["train", "head", "--out", "tests"], "--out: 'tests' is a folder; name a file in it"),
        (["train", "encoder", "--steps", "20"], "'20' is not a whole number, 100 at least, a mul"),
        (["train", "encoder", "--steps", "120"], "100 at least, a multiple of 50"),
        (["train", "encoder", "--pairs", "1"], "--pairs: '1' is not a whole number, 2 at least"),
        (["ablation", "--out", "a.json", "--steps", "50"], "'50' is not a whole number, 51 at"),
        (["ablation", "--out", "a.json", "--seeds", "-1"], "argument --seeds: '-1' is not"),
        (["eigenfaces", "--components", "0"], "--components: '0' is not a whole number, 1 at"),
        (["ship", "e.keras", "--out", "k.zip"], "argument --out: 'k.zip' must end in .npz"),
        (["quality", "--picture", "a.png"], "--picture: 'a.png' must end in .jpg or .jpeg"),
        (["kin", "a.jpg", "b.jpg", "--figure", "x.doc"], "--figure: 'x.doc' must end in .png or"),
        (["kin", "a.jpg", "b.jpg", "--faces", "1", "0"], "--faces: '0' is not a whole number"),
        (["verify", "a.jpg", "b.jpg", "--threshold", "safe"], "There is no threshold 'safe'"),
        (["verify", "a.jpg", "b.jpg", "--threshold", "3"], "3.0 is not a cosine distance; it"),
        (["protocol", "--out", "README.md"], "--out: 'README.md' is a file; name a folder"),
        (["detect"], "required: PHOTO"),
        (["detect", "a.jpg", "--min-face", "0"], "--min-face: '0' is not a number of pixels"),
        (["detect", "a.jpg", "--min-face", "1.5"], "--min-face: '1.5' is not a number of pixels"),
        (["verify", "a.jpg"], "required: B"),
        (["protocol"], "required: --out"),
        (["audit", "--dat", "x", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_arguments_are_told_and_end_with_status_two(capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
