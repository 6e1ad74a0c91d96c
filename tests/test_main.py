"""What the command line does with a verb's result, and with what goes wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import utils
from utils import __version__
from utils.__main__ import main
from utils.data import datasets

ROOT = Path(utils.__file__).parents[1]


def run_module(*arguments, options=()):
    """``python -m utils`` as a process of its own."""
    command = [sys.executable, *options, "-m", "utils", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def imported_packages(process):
    """Top-level packages that a process started with ``-X importtime`` imported."""
    names = (line.rpartition("|")[2].strip() for line in process.stderr.splitlines())
    return {name.partition(".")[0] for name in names}


def test_process_ends_with_the_status_and_the_sentence(tmp_path):
    ended = run_module("audit", "--data", tmp_path / "nowhere")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: .*nowhere does not exist; [^\n]+\n", ended.stderr)


def test_help_needs_neither_tensorflow_nor_pandas():
    ended = run_module("--help", options=["-X", "importtime"])
    imported = imported_packages(ended)
    assert ended.stdout.startswith("usage: kincourse") and "argparse" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"}


def test_listing_weights_needs_no_tensorflow():
    ended = run_module("weights", options=["-X", "importtime"])
    assert ended.returncode == 0 and ended.stdout.startswith("dlib-resnet ")
    assert not imported_packages(ended) & {"tensorflow", "keras"}


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
        (["detect"], "required: PHOTO"),
        (["detect", "a.jpg", "--min-face", "0"], "--min-face: '0' is not a number of pixels"),
        (["detect", "a.jpg", "--min-face", "1.5"], "--min-face: '1.5' is not a number of pixels"),
        (["verify", "a.jpg"], "required: B"),
        (["protocol"], "required: --out"),
        (["audit", "--dat", "x", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_arguments_are_told_and_end_with_status_two(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
