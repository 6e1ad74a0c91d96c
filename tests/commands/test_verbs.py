"""How verbs are declared and found."""

import re
import shlex

import pytest

from utils import commands
from utils.__main__ import main

VERBS = [
    *["families", "audit", "protocol", "eigenfaces", "quality"],
    *["detect", "embed", "weights"],
    *["train head", "train encoder", "train network", "ablation", "ship"],
    *["evaluate", "submit", "relations", "calibrate"],
    *["verify", "kin"],
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
    assert listed == ["head", "encoder", "network"]


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
            *["--learning-rate", "--precision"],
        },
        "network": {
            *["--backbones", "--variant", "--trainable", "--epochs", "--steps"],
            *["--learning-rate", "--h5"],
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
    from utils.training import losses, networks

    parse = commands.build_parser().parse_args
    for loss in losses.LOSSES:
        assert parse(["train", "encoder", "--loss", loss]).loss == loss
    network = ["train", "network", "--backbones", "dlib-resnet"]
    for variant in networks.VARIANTS:
        assert parse([*network, "--variant", variant]).variant == variant
    for layers in networks.TRAINABLE:
        assert parse([*network, "--trainable", layers]).trainable == layers
        assert parse(["train", "encoder", "--trainable", layers]).trainable == layers
