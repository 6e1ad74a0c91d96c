"""What the tests of verbs share: small data, a way to run a verb, a toy encoder."""

import contextlib
import io
import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from utils import images
from utils.__main__ import main
from utils.data import datasets, protocols, scenes, synthetic
from utils.faces import alignment, backbones


@pytest.fixture(scope="session")
def clean(families_root, tmp_path_factory):
    """The synthetic families without their truncated photo, as a folder."""
    root = shutil.copytree(families_root, tmp_path_factory.mktemp("clean") / "families")
    [broken] = synthetic.manifest(root)["defects"]["truncated"]
    (root / broken).unlink()
    return root


@pytest.fixture(scope="session")
def medium(clean, tmp_path_factory):
    """Fourteen of the families, of whom four are held out: two in each fold."""
    root = tmp_path_factory.mktemp("medium") / "families"
    names = sorted(path.name for path in (clean / "train").iterdir())
    for family in names[:10] + names[-4:]:
        shutil.copytree(clean / "train" / family, root / "train" / family)
    shutil.copy(clean / datasets.RELATIONSHIPS, root)
    return root


@pytest.fixture(scope="session")
def few(medium, tmp_path_factory):
    """Five of the families, for what looks for faces in every photo."""
    root = tmp_path_factory.mktemp("few") / "families"
    for family in sorted((medium / "train").iterdir())[:5]:
        shutil.copytree(family, root / "train" / family.name)
    shutil.copy(medium / datasets.RELATIONSHIPS, root)
    return root


@pytest.fixture(scope="session")
def few_pairs(families, tmp_path_factory):
    """A protocol of 40 pairs of held-out families, as a file."""
    path = tmp_path_factory.mktemp("protocol") / "mine.csv"
    table = protocols.make_protocol(families, ["F0900", "F0901"], pairs_each=20)
    protocols.write_csv(table, path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Files: two photos of one person, a child, a stranger, a wall of six, nobody, half a file."""
    folder = tmp_path_factory.mktemp("pictures")
    anna, again = scenes.two_photos("same", 3)
    shown = {
        "anna": anna,
        "again": again,
        "child": scenes.two_photos("relatives", 3)[1],
        "bob": scenes.two_photos("strangers", 3)[1],
        "wall": scenes.family_wall(6, 1, 640, 360)[0],
        "nobody": np.full((90, 120, 3), 127, np.uint8),
    }
    for name, picture in shown.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(picture))
    (folder / "half.jpg").write_bytes((folder / "wall.jpg").read_bytes()[:5000])
    return folder


@pytest.fixture
def run(capsys):
    """A function that runs a verb and gives what it printed: parsed JSON, or text."""

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in arguments else printed

    return call


@pytest.fixture
def refused(capsys):
    """A function that runs a verb that must fail, and gives the one sentence it printed."""

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and re.fullmatch(r"error: [^\n]+\n", printed.err)
        return printed.err

    return call


def facts_of(*arguments):
    """What a verb prints with ``--json``; for fixtures of a wider scope than ``run``."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(printed.getvalue())


class Toy(backbones.Backbone):
    """A network of one layer on crops of 12 pixels."""

    name, input_size, embedding_size = "toy", 12, 6
    preprocessing, weights_id = "unit", "0123456789abcdef"
    template = alignment.CROP_LANDMARKS * 12

    def standardise(self, faces):
        return faces / 256

    def architecture(self):
        import keras

        picture = keras.Input((12, 12, 3))
        flat = keras.layers.Flatten()(picture)
        out = keras.layers.Dense(6, use_bias=False, name="out")(flat)
        return keras.Model(picture, out, name="toy")

    def load_pretrained(self, model):
        model.set_weights([np.random.default_rng(0).normal(size=(432, 6))])

    def weights_path(self):
        return Path(__file__)  # any file: `weights` lists it


@contextlib.contextmanager
def registered_toy():
    """The toy can be had by the name "toy"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "utils.faces.backbones.toy", types.SimpleNamespace(Toy=Toy))
        patch.setitem(backbones.REGISTRY, "toy", "toy:Toy")
        yield backbones.get("toy")


@pytest.fixture
def toy():
    """The toy, by name as long as a test runs."""
    with registered_toy() as backbone:
        yield backbone


@pytest.fixture(scope="session")
def trained_head(clean, tmp_path_factory):
    """A head that the command line trained in one epoch, and what it printed."""
    out = tmp_path_factory.mktemp("head") / "head.keras"
    arguments = ["--data", clean, "--fold", 1, "--epochs", 1, "--out", out]
    return types.SimpleNamespace(path=out, facts=facts_of("train", "head", *arguments))


@pytest.fixture(scope="session")
def trained_encoder(medium, tmp_path_factory):
    """An encoder that the command line fine-tuned in a hundred steps, and what it printed."""
    out = tmp_path_factory.mktemp("encoder") / "mine.keras"
    arguments = ["--data", medium, "--backbone", "toy", "--pairs", 4, "--steps", 100]
    arguments += ["--loss", "pairs", "--precision", "mixed_bfloat16", "--trainable", "last-3"]
    arguments += ["--learning-rate", 0.001, "--fold", 1, "--seed", 5, "--out", out]
    with registered_toy():
        facts = facts_of("train", "encoder", *arguments)
    return types.SimpleNamespace(path=out, facts=facts)


@pytest.fixture(scope="session")
def trained_folds(medium, tmp_path_factory):
    """Encoders of two folds, twice, that the command line fine-tuned in few steps.

    And what it printed.
    """
    from utils.training import encoder

    recipe = encoder.FinetuneSettings(
        pairs=4, steps=4, learning_rate=0.001, warmup=1, check_every=2, fold_pairs=20
    )
    out = tmp_path_factory.mktemp("folds") / "new"
    arguments = ["--backbones", "toy", "--folds", 0, 1, "--data", medium, "--out", out]
    with pytest.MonkeyPatch.context() as patch, registered_toy():
        patch.setitem(encoder.RECIPES, "toy", recipe)
        patch.setitem(encoder.RUNS, "toy", 2)
        facts = facts_of("train", "folds", *arguments)
    names = ("fold0", "fold1", "fold0-seed10", "fold1-seed11")
    paths = [out / f"toy-{name}.keras" for name in names]
    return types.SimpleNamespace(paths=paths, out=out, facts=facts, recipe=recipe)


@pytest.fixture(scope="session")
def trained_network(clean, tmp_path_factory):
    """A network on the fixed default encoder, trained in three steps, and what was printed."""
    out = tmp_path_factory.mktemp("network") / "network.keras"
    arguments = ["--data", clean, "--backbones", "dlib-resnet", "--trainable", "none"]
    arguments += ["--epochs", 1, "--steps", 3, "--learning-rate", 0.001, "--fold", 1, "--h5"]
    facts = facts_of("train", "network", *arguments, "--out", out)
    return types.SimpleNamespace(path=out, facts=facts)
