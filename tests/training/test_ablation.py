"""The ablation measures what it says, keeps what it has measured, and compares run by run."""

import dataclasses
import json
import re
import types
import zlib

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import rankdata

from utils import images
from utils.data import protocols
from utils.errors import ModelError
from utils.faces import embeddings
from utils.files import read_json
from utils.scoring import metrics
from utils.settings import RESULTS
from utils.training import ablation
from utils.training.ablation import BASE, DERIVED
from utils.training.callbacks import WatchedFold
from utils.training.encoder import FinetuneSettings

ROWS = {
    BASE: {},
    "more pairs": {"pairs": 8},
    "slower": {"learning_rate": 1e-6},
    "no averaging": {"averaging": 0.0},
}
COHORT = np.random.default_rng(1).normal(size=(20, 5))
SETTINGS = FinetuneSettings(pairs=4, steps=2, warmup=1, check_every=2, fold_pairs=30)


def projected(faces, key):
    """Embeddings that depend on the pixels and on what was trained."""
    rng = np.random.default_rng(zlib.crc32(repr(key).encode()))
    # the mean over squares of 3 by 3 pixels, and over all photos about 0: (n, 48)
    fields = faces.reshape(len(faces), 4, 3, 4, 3, 3).mean((2, 4)).reshape(len(faces), -1) - 115
    return (fields @ rng.normal(size=(48, 5))).astype(np.float32)


def key_of(fold, seed, settings):
    """What the embeddings of a training depend on."""
    return fold, seed, settings.pairs, settings.learning_rate, settings.averaging


class Fitted:
    """What stands in for a fine-tuned encoder."""

    def __init__(self, backbone, fold, seed, settings):
        self.backbone, self.key = backbone, key_of(fold, seed, settings)

    def embed(self, faces, mirrored=True):
        assert faces.dtype == np.uint8 and faces.shape[1:] == (12, 12, 3)
        return projected(faces, (*self.key, mirrored))

    def similarity(self, a, b):
        return metrics.csls(a, b, COHORT)


class Head:
    """What stands in for a trained head."""

    def __init__(self, rows):
        self.rows = rows

    def score(self, a, b):
        return 1 / (1 + np.exp(np.abs(a - b).mean(1) / np.abs(self.rows).mean() - 1))


@pytest.fixture(scope="module")
def toy():
    """A backbone that is not built."""
    return types.SimpleNamespace(name="toy", input_size=12, build=lambda: None)


@pytest.fixture(scope="module")
def pixels(families):
    return images.read_many(families.paths(families.photos["path"]), 12)


@pytest.fixture
def trainings(families, monkeypatch, pixels, toy):
    """What is trained, in order; fakes stand in for the trainings."""

    def fit_encoder(dataset, backbone, fold, seed, settings, verbose):
        encoders.append((fold, seed, settings))
        return Fitted(backbone, fold, seed, settings), {}

    def frozen_cohort(embedder, faces, dataset, names):
        assert embedder.backbone is toy and faces is pixels
        assert set(names) < set(protocols.split_families(dataset)[0])
        return -COHORT

    def fit_head(dataset, rows, backbone, fold, seed, verbose):
        assert rows.shape == (len(dataset.photos), 5) and np.isfinite(rows).all()
        heads.append((fold, seed))
        return Head(rows), {}

    def embed_photos(backbone, paths, progress):
        assert paths == families.paths(families.photos["path"])
        return projected(pixels, "frozen")

    encoders, heads = [], []
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    monkeypatch.setattr(ablation, "fit_encoder", fit_encoder)
    monkeypatch.setattr(ablation, "fit_head", fit_head)
    monkeypatch.setattr(ablation, "family_means", frozen_cohort)
    monkeypatch.setattr(ablation.datasets, "decoded", lambda *_, **options: [pixels])
    monkeypatch.setattr(embeddings, "embed_photos", embed_photos)
    return types.SimpleNamespace(encoders=encoders, heads=heads)


@pytest.fixture
def run(families, toy, trainings, tmp_path):
    """A function that measures some rows, by default with seeds 0 and 1."""

    def run(*rows, out=tmp_path / "a.json", **options):
        options = {"settings": SETTINGS, "seeds": (0, 1)} | options
        return ablation.run(families, toy, out, list(rows) or None, **options)

    return run


# --- running ------------------------------------------------------------------------------------


def test_each_row_is_trained_with_its_change_alone_and_with_seed_and_fold_together(run, trainings):
    result = run(seeds=(0, 6))
    assert trainings.encoders == [
        (fold, seed, dataclasses.replace(SETTINGS, **change))
        for fold, seed in ((0, 0), (1, 6))
        for change in ROWS.values()
    ]
    assert trainings.heads == [(0, 0)] * 2 + [(1, 6)] * 2
    assert set(result["rows"]) == {*ROWS, *DERIVED}
    assert all(list(runs) == ["0", "6"] for runs in result["rows"].values())
    assert result["settings"] == dataclasses.asdict(SETTINGS)


def test_rows_change_settings_that_there_are_and_each_does_change_something():
    changed = [
        dataclasses.replace(FinetuneSettings(), **change) for change in ablation.ROWS.values()
    ]
    assert next(iter(ablation.ROWS)) == BASE and changed[0] == FinetuneSettings()
    assert len(set(changed)) == len(changed) > 8
    assert not set(ablation.ROWS) & set(DERIVED)


def test_committed_measurements_are_of_the_settings_and_rows_that_there_are():
    committed = read_json(RESULTS / "ablation.json")
    settings = FinetuneSettings(precision="mixed_bfloat16")
    assert committed["settings"] == dataclasses.asdict(settings)
    assert {BASE, *DERIVED} < set(committed["rows"]) <= {*ablation.ROWS, *DERIVED}


def test_numbers_are_those_by_hand(run, families, pixels):
    rows = run(BASE, "more pairs", seeds=(1,))["rows"]
    others = dataclasses.replace(SETTINGS, pairs=8)
    ours, plain = (projected(pixels, (*key_of(1, 1, SETTINGS), view)) for view in (True, False))
    larger = projected(pixels, (*key_of(1, 1, others), True))
    frozen = projected(pixels, "frozen")
    fold = WatchedFold.of(families, 1, 30)

    def cosine(table):
        return metrics.cosine(table[fold.a], table[fold.b])

    def against(table, cohort=COHORT):
        return metrics.csls(table[fold.a], table[fold.b], cohort)

    def head(table):
        return Head(table).score(table[fold.a], table[fold.b])

    expected = {
        BASE: against(ours),
        "more pairs": against(larger),
        "ours without the cohort": cosine(ours),
        "ours without the mirror image": against(plain),
        "frozen encoder, cosine against a cohort": against(frozen, -COHORT),
        "frozen encoder, cosine": cosine(frozen),
        "frozen encoder, head": head(frozen),
        "ours, head on its embeddings": head(ours),
        "ours and the frozen head, mean rank": rankdata(head(frozen)) + rankdata(against(ours)),
    }
    assert set(rows) == set(expected)
    apart = fold.same_photo == 0
    assert 0 < (~apart).sum() < len(apart)
    for name, scores in expected.items():
        numbers, auc = rows[name]["1"], metrics.roc_auc(fold.labels, scores)
        cross_photo = metrics.roc_auc(fold.labels[apart], scores[apart])
        assert_allclose(
            [numbers["auc"], numbers["auc_cross_photo"]], [auc, cross_photo], atol=6e-5
        )
        assert ("seconds" in numbers) == (name in ROWS)
    aucs = {(row["1"]["auc"], row["1"]["auc_cross_photo"]) for row in rows.values()}
    assert len(aucs) == len(rows), "rows that are alike show nothing"


def test_derived_rows_come_with_the_base_alone(run, trainings):
    assert set(run("more pairs")["rows"]) == {"more pairs"}
    assert trainings.heads == []
    assert set(run(BASE)["rows"]) == {"more pairs", BASE, *DERIVED}


# --- what is kept -------------------------------------------------------------------------------


def test_result_is_written_after_each_training_and_a_killed_run_goes_on(
    run, trainings, tmp_path, monkeypatch
):
    def killed(*arguments, **options):
        written.append(json.loads(out.read_text())["rows"] if out.is_file() else None)
        if len(written) == 4:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    out, fit, written = tmp_path / "new" / "a.json", ablation.fit_encoder, []
    rows = ("slower", BASE, "more pairs")
    whole = run(*rows)
    trainings.encoders.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ablation, "fit_encoder", killed)
        run(*rows, out=out)
    assert [measured and set(measured) for measured in written] == [
        None,
        {"slower"},
        {"slower", BASE, *DERIVED},
        {*rows, *DERIVED},
    ]
    assert all(list(runs) == ["0"] for runs in written[3].values())
    assert len(trainings.encoders) == 3
    result = run(*rows, out=out)
    assert [seed for _, seed, _ in trainings.encoders] == [0, 0, 0, 1, 1, 1]
    written_at_the_end = json.loads(out.read_text())
    assert without_seconds(result) == without_seconds(whole) == without_seconds(written_at_the_end)
    assert [path.name for path in out.parent.iterdir()] == ["a.json"]


def without_seconds(result):
    """The numbers that do not depend on the machine: (row, seed, AUCs)."""
    return [
        (name, seed, numbers["auc"], numbers["auc_cross_photo"])
        for name, runs in result["rows"].items()
        for seed, numbers in runs.items()
    ]


def test_what_is_there_is_not_trained_again(run, trainings, tmp_path):
    first, path = run(BASE), tmp_path / "a.json"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert run(BASE) == first and len(trainings.encoders) == 2
    assert path.read_bytes() == before and path.stat().st_mtime_ns == stamp
    run(BASE, seeds=(0, 1, 2))
    assert [seed for _, seed, _ in trainings.encoders] == [0, 1, 2]


def test_other_settings_are_refused_and_the_file_stays(run, trainings, tmp_path):
    out = tmp_path / "a.json"
    run(BASE, seeds=(0,))
    before = out.read_bytes()
    with pytest.raises(ModelError) as caught:
        run(BASE, settings=dataclasses.replace(SETTINGS, learning_rate=1e-4))
    assert str(caught.value) == f"{out} was measured with other settings; name another file."
    assert out.read_bytes() == before and len(trainings.encoders) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "{}", json.dumps({"settings": dataclasses.asdict(SETTINGS)})]
)
def test_file_of_something_else_is_named_and_stays(run, trainings, tmp_path, content):
    out = tmp_path / "a.json"
    out.write_text(content)
    with pytest.raises(ModelError) as caught:
        run(BASE)
    assert str(caught.value) == (f"{out} holds no measurements of an ablation; name another file.")
    assert out.read_text() == content and trainings.encoders == []


def test_unknown_row_is_named_with_those_there_are_before_anything_is_trained(
    run, trainings, tmp_path
):
    for row in ("more steps", DERIVED[0]):
        with pytest.raises(
            ModelError, match=re.escape(f"There is no row {row!r}; choose of: ours, ")
        ):
            run(BASE, row)
    assert trainings.encoders == [] and not (tmp_path / "a.json").exists()


# --- the table ----------------------------------------------------------------------------------


def runs(*numbers):
    """Numbers (AUC, without same-photo pairs, seconds) by seed."""
    names = ("auc", "auc_cross_photo", "seconds")
    return {str(seed): dict(zip(names, each, strict=False)) for seed, each in enumerate(numbers)}


def test_table_gives_means_deviations_and_differences_run_by_run(monkeypatch):
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    result = {
        "rows": {
            BASE: runs((0.80, 0.78, 60), (0.84, 0.80, 120), (0.82, 0.82, 180)),
            "more pairs": runs((0.81, 0.79, 90), (0.86, 0.81, 90)),  # a run less
            "frozen encoder, head": runs((0.70, 0.60), (0.72, 0.62), (0.77, 0.64)),
            "slower": runs((0.75, 0.745, 30)),
            "no averaging": {},
        }
    }
    table = ablation.table(result)
    assert table.index.tolist() == ["frozen encoder, head", BASE, "more pairs", "slower"]
    columns = ["AUC", "without same-photo pairs", "against ours", "runs", "minutes"]
    lines = [
        ["0.730 ± 0.036", "0.620", "-0.090 ± 0.036", 3, ""],
        ["0.820 ± 0.020", "0.800", "", 3, "2.0"],
        ["0.835 ± 0.035", "0.800", "+0.015 ± 0.007", 2, "1.5"],
        ["0.750 ± 0.000", "0.745", "-0.050 ± 0.000", 1, "0.5"],
    ]
    pd.testing.assert_frame_equal(table, pd.DataFrame(lines, table.index, columns))


def test_table_without_the_base_compares_with_nothing(monkeypatch):
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    table = ablation.table({"rows": {"more pairs": runs((0.8, 0.7, 60), (0.9, 0.8, 60))}})
    assert table.loc["more pairs"].tolist() == ["0.850 ± 0.071", "0.750", "", 2, "1.0"]
