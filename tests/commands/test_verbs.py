"""How verbs are declared and found."""

import re
import shlex

import pytest

from utils import commands, files
from utils.__main__ import main
from utils.commands import album, answers, data, faces, gallery, scoring, training, verbs

VERBS = [
    *["families", "audit", "triples", "protocol", "eigenfaces", "quality"],
    *["detect", "embed", "weights"],
    *["train head", "train encoder", "train network"],
    *["ablation", "train folds", "crossvalidate", "ship"],
    *["evaluate", "submit", "relations", "calibrate"],
    *["verify", "kin"],
    *["gallery build", "gallery search"],
    *["album", "albums"],
]


def help_of(verb, capsys):
    """What is printed for ``--help`` behind a verb."""
    with pytest.raises(SystemExit) as stopped:
        main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_verb(capsys):
    listed = re.findall(r"^    (\w+)", help_of("", capsys), re.MULTILINE)
    assert listed == list(dict.fromkeys(verb.split()[0] for verb in VERBS))
    listed = re.findall(r"^    (\w+)", help_of("train", capsys), re.MULTILINE)
    assert listed == ["head", "encoder", "network", "folds"]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_the_help_can_be_typed(verb, capsys):
    [examples] = re.findall(r"example:\n((?:  .*\n)+)", help_of(verb, capsys))
    for example in examples.splitlines():
        program, *arguments = shlex.split(example)
        assert program == "kincourse" and " ".join(arguments).startswith(verb)
        parsed = commands.build_parser().parse_args(arguments)
        assert callable(parsed.run)


def test_each_training_takes_only_its_own_options(capsys):
    own = {
        "head": {"--backbone", "--epochs", "--learning-rate"},
        "encoder": {
            *["--backbone", "--loss", "--trainable", "--pairs", "--steps"],
            *["--learning-rate", "--precision", "--strategy"],
        },
        "network": {
            *["--backbones", "--variant", "--trainable", "--epochs", "--steps"],
            *["--learning-rate", "--strategy", "--h5"],
        },
    }
    common = {"--data", "--fold", "--seed", "--out", "--json", "--verbose"}
    for what, options in own.items():
        shown = set(re.findall(r"^  (--[\w-]+)", help_of(f"train {what}", capsys), re.MULTILINE))
        assert shown == options | common


def test_defaults_in_the_help_are_those_of_the_settings(capsys):
    from utils.training.encoder import FinetuneSettings
    from utils.training.head import HeadSettings
    from utils.training.pair_network import NetworkSettings

    settings = {
        "head": HeadSettings(),
        "encoder": FinetuneSettings(),
        "network": NetworkSettings(),
    }
    for what, default in settings.items():
        text = " ".join(help_of(f"train {what}", capsys).split())
        shown = dict(re.findall(r"--([\w-]+) [^(]*?\(default: ([\w.-]+)\)", text))
        shown |= dict(re.findall(r"--([\w-]+) [A-Z_{}\w,-]+ default: ([\w.-]+)", text))
        names = {name.replace("-", "_"): value for name, value in shown.items()}
        common = names.keys() & vars(default).keys()
        assert "learning_rate" in common
        for name in common:
            assert type(vars(default)[name])(names[name]) == vars(default)[name], (what, name)


def test_choices_are_those_of_the_code():
    from utils.training import distribution, losses, networks

    parse = commands.build_parser().parse_args
    for loss in losses.LOSSES:
        assert parse(["train", "encoder", "--loss", loss]).loss == loss
    network = ["train", "network", "--backbones", "dlib-resnet"]
    for variant in networks.VARIANTS:
        assert parse([*network, "--variant", variant]).variant == variant
    for layers in networks.TRAINABLE:
        assert parse([*network, "--trainable", layers]).trainable == layers
        assert parse(["train", "encoder", "--trainable", layers]).trainable == layers
    for strategy in distribution.CHOICES:
        assert parse(["train", "encoder", "--strategy", strategy]).strategy == strategy
        assert parse([*network, "--strategy", strategy]).strategy == strategy


# --- outputs ------------------------------------------------------------------------------------

# each output of each verb, behind what else its verb needs; the data are not there
OUTPUTS = {
    "families --out": "NEW.folder",
    "audit --figures": "NEW.folder",
    "triples --out": "NEW.csv",
    "protocol --out": "NEW.folder",
    "eigenfaces --out": "NEW.npz",
    "quality --picture": "NEW.jpg",
    "detect --out": "NEW.folder a.jpg",
    "embed --out": "NEW.npz",
    "train head --out": "NEW.keras",
    "train encoder --out": "NEW.keras",
    "train network --out": "NEW.keras --backbones dlib-resnet",
    "ablation --out": "NEW.json",
    "train folds --out": "NEW.folder --backbones dlib-resnet",
    "crossvalidate --out": "NEW.json e.keras",
    "ship --out": "NEW.npz e.keras",
    "submit --out": "NEW.csv",
    "calibrate --out": "NEW.json",
    "kin --figure": "NEW.png a.jpg b.jpg",
    "gallery build --out": "NEW.folder photos",
    "album --out": "NEW.folder a",
    "albums --out": "NEW.json e.keras",
}


def with_output(output, path):
    """The arguments of one of these, on data that are not there."""
    verb, words = output.split()[0], f"{output} {OUTPUTS[output]}".replace("NEW", str(path))
    takes_data = verb not in ("families", "detect", "kin", "gallery", "album")
    return [*words.split(), *(["--data", path.parent / "nowhere"] if takes_data else [])]


def test_outputs_of_these_tests_are_all_there_are():
    declared = [
        f"{verb.name} {option.names[0]}"
        for verb in verbs.declared([data, faces, training, scoring, answers, gallery, album])
        for option in verb.options
        if option.is_output
    ]
    assert declared == list(OUTPUTS)


@pytest.mark.parametrize("output", OUTPUTS)
def test_output_that_cannot_be_written_is_told_before_anything_is_read(refused, output, tmp_path):
    (tmp_path / "file").touch()
    sentence = refused(*with_output(output, tmp_path / "file" / "new"))
    assert sentence == (
        f"error: {tmp_path / 'file'} is a file, so nothing can be written in it: name another "
        "output.\n"
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_output_without_room_is_told_before_anything_is_read(
    refused, output, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "free_room", lambda folder: 1_000)
    sentence = refused(*with_output(output, tmp_path / "new"))
    needed = {"train head --out": "4.0", "album --out": "20.0"}.get(output, "0.1")
    assert sentence == (
        f"error: There is no room in {tmp_path}: {needed} MB are needed, 0.0 MB are free. Make "
        "room there, or name an output on another disk (--out).\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", OUTPUTS)
def test_output_of_a_name_that_is_too_long_is_one_sentence(refused, output, tmp_path):
    sentence = refused(*with_output(output, tmp_path / ("n" * 300)))
    assert sentence.startswith(f"error: The name {'n' * 300}.")
    assert sentence.endswith(f" for a file in {tmp_path}: take one of 244 bytes at most.\n")


def test_default_output_is_checked_too(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face_vgg.csv").symlink_to("/dev/null")
    assert "face_vgg.csv is a device or a pipe" in refused("submit")
