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
from utils.data import datasets, pairs
from utils.errors import ModelError
from utils.faces import embeddings
from utils.scoring import metrics
from utils.training import ablation, training
from utils.training.ablation import BASE, DERIVED
from utils.training.training import FinetuneSettings

ROWS = {BASE: {}, "more pairs": {"pairs": 8}, "slower": {"learning_rate": 1e-6},
        "no averaging": {"averaging": 0.0}}
COHORT = np.random.default_rng(1).normal(size=(20, 5))
HOW = FinetuneSettings(pairs=4, steps=2, warmup=1, check_every=2, fold_pairs=30)


def projected(faces, key):
    """Embeddings that depend on the pixels and on what was trained, of which the mean of all photos is 0."""
    rng = np.random.default_rng(zlib.crc32(repr(key).encode()))
    fields = faces.reshape(len(faces), 4, 3, 4, 3, 3).mean((2, 4)).reshape(len(faces), -1) - 115
    return (fields @ rng.normal(size=(48, 5))).astype(np.float32)


class Fitted:
    """What stands in for a fine-tuned encoder."""

    embedding_size = 5

    def __init__(self, fold, seed, how):
        self.key = (fold, seed, how)

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


@pytest.fixture
def trainings(families, monkeypatch, pixels, toy):
    """What is trained, in order; fakes stand in for the trainings."""
    def fit_encoder(dataset, backbone, fold, seed, how, verbose):
        asked.append((fold, seed, how))
        fitted = Fitted(fold, seed, how)
        fitted.backbone = backbone
        return fitted, {}

    def frozen_cohort(encoder, dataset, families):
        assert encoder.backbone is toy and set(families) < set(datasets.split_families(dataset)[0])
        return -COHORT

    def fit_head(dataset, rows, backbone, fold, seed, verbose):
        assert rows.shape == (len(dataset.photos), 5) and np.isfinite(rows).all()
        heads.append((fold, seed))
        return Head(rows), {}

    asked, heads = [], []
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    monkeypatch.setattr(training, "fit_encoder", fit_encoder)
    monkeypatch.setattr(training, "fit_head", fit_head)
    monkeypatch.setattr(training, "cohort", frozen_cohort)
    monkeypatch.setattr(training, "decoded", lambda dataset, chosen: [pixels])
    monkeypatch.setattr(embeddings, "embed_photos", lambda backbone, paths, progress: projected(
        pixels[[families.paths(families.photos["path"]).index(path) for path in paths]], "frozen"))
    return types.SimpleNamespace(encoders=asked, heads=heads)


@pytest.fixture(scope="module")
def pixels(families):
    return images.read_many(families.paths(families.photos["path"]), 12)


def ran(families, toy, out, *rows, **options):
    return ablation.run(families, toy, out, list(rows) or None, **{"how": HOW, "seeds": (0, 1)} | options)


# --- running ------------------------------------------------------------------------------------


def test_each_row_is_trained_with_its_change_alone_and_with_seed_and_fold_together(families, toy, trainings,
                                                                                   tmp_path):
    result = ran(families, toy, tmp_path / "a.json", seeds=(0, 6))
    assert trainings.encoders == [(fold, seed, dataclasses.replace(HOW, **change))
                                  for fold, seed in ((0, 0), (1, 6)) for change in ROWS.values()]
    assert trainings.heads == [(0, 0)] * 2 + [(1, 6)] * 2
    assert set(result["rows"]) == {*ROWS, *DERIVED}
    assert all(list(runs) == ["0", "6"] for runs in result["rows"].values())
    assert result["settings"] == dataclasses.asdict(HOW)


def test_rows_change_settings_that_there_are_and_each_does_change_something():
    changed = [dataclasses.replace(FinetuneSettings(), **change) for change in ablation.ROWS.values()]
    assert next(iter(ablation.ROWS)) == BASE and changed[0] == FinetuneSettings()
    assert len(set(changed)) == len(changed) > 8
    assert not set(ablation.ROWS) & set(DERIVED)


def by_hand(families, fold, scores):
    """Figures of scores, from the photos' rows of the fold's pairs."""
    watched = training.fold_protocol(families, pairs.folds_for(families), fold, 30)
    found = scores(*pairs.photo_rows(watched, families))
    labels, apart = watched["is_related"].to_numpy(), (watched["same_photo"] == 0).to_numpy()
    assert 0 < (~apart).sum() < len(apart)
    return {"auc": metrics.roc_auc(labels, found), "auc_cross_photo": metrics.roc_auc(labels[apart], found[apart])}


def test_figures_are_those_by_hand(families, toy, trainings, pixels, tmp_path):
    rows = ran(families, toy, tmp_path / "a.json", BASE, "more pairs", seeds=(1,))["rows"]
    other = dataclasses.replace(HOW, pairs=8)
    ours, plain, larger, frozen = (projected(pixels, key) for key in (
        (1, 1, HOW, True), (1, 1, HOW, False), (1, 1, other, True), "frozen"))

    def cosine(each):
        return lambda a, b: metrics.cosine(each[a], each[b])

    def against(each, cohort=COHORT):
        return lambda a, b: metrics.csls(each[a], each[b], cohort)

    def head(each):
        return lambda a, b: Head(each).score(each[a], each[b])

    expected = {BASE: against(ours), "more pairs": against(larger), "ours without the cohort": cosine(ours),
                "ours without the mirror image": against(plain),
                "frozen encoder, cosine against a cohort": against(frozen, -COHORT),
                "frozen encoder, cosine": cosine(frozen), "frozen encoder, head": head(frozen),
                "ours, head on its embeddings": head(ours),
                "ours and the frozen head, mean rank":
                    lambda a, b: rankdata(head(frozen)(a, b)) + rankdata(against(ours)(a, b))}
    assert set(rows) == set(expected)
    for name, scores in expected.items():
        found = rows[name]["1"]
        for key, value in by_hand(families, 1, scores).items():
            assert_allclose(found[key], value, atol=6e-5)
        assert ("seconds" in found) == (name in ROWS)
    assert len({row["1"]["auc"] for row in rows.values()}) == len(rows)
    assert rows[BASE]["1"]["auc"] != rows[BASE]["1"]["auc_cross_photo"]


def test_derived_rows_come_with_the_base_alone(families, toy, trainings, tmp_path):
    assert set(ran(families, toy, tmp_path / "a.json", "more pairs")["rows"]) == {"more pairs"}
    assert trainings.heads == []
    assert set(ran(families, toy, tmp_path / "a.json", BASE)["rows"]) == {"more pairs", BASE, *DERIVED}


def test_held_out_families_are_in_no_measured_pair(families, toy, trainings, tmp_path, monkeypatch):
    def noting(watched, scores):
        seen.append(watched)
        return figures(watched, scores)

    seen, figures = [], ablation._figures
    monkeypatch.setattr(ablation, "_figures", noting)
    ran(families, toy, tmp_path / "a.json", BASE)
    held_out = set(datasets.split_families(families)[1])
    measured = {name for watched in seen for side in pairs.pair_families(watched) for name in side}
    assert len(measured) > 3 and not measured & held_out


# --- what is kept -------------------------------------------------------------------------------


def test_result_is_written_after_each_training_and_a_killed_run_goes_on(families, toy, trainings, tmp_path,
                                                                       monkeypatch):
    out, fit, written = tmp_path / "new" / "a.json", training.fit_encoder, []

    def killed(dataset, backbone, fold, seed, how, verbose):
        written.append(json.loads(out.read_text())["rows"] if out.is_file() else None)
        if len(written) == 4:
            raise KeyboardInterrupt
        return fit(dataset, backbone, fold, seed, how, verbose=verbose)

    rows = ("slower", BASE, "more pairs")
    whole = ran(families, toy, tmp_path / "whole.json", *rows)
    trainings.encoders.clear()
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_encoder", killed)
        with pytest.raises(KeyboardInterrupt):
            ran(families, toy, out, *rows)
    first, second, third, fourth = (kept and {name for name, runs in kept.items() if runs} for kept in written)
    assert first is None and second == {rows[0]} and third == {rows[0], BASE, *DERIVED}
    assert fourth == {*rows, *DERIVED} and all(list(runs) == ["0"] for runs in written[3].values())
    assert len(trainings.encoders) == 3
    result = ran(families, toy, out, *rows)
    assert [seed for _, seed, _ in trainings.encoders] == [0, 0, 0, 1, 1, 1]
    assert without_seconds(result) == without_seconds(whole) == without_seconds(json.loads(out.read_text()))
    assert [path.name for path in out.parent.iterdir()] == ["a.json"]


def without_seconds(result):
    return {"settings": result["settings"], "rows": {
        name: {seed: {key: value for key, value in figures.items() if key != "seconds"}
               for seed, figures in runs.items()} for name, runs in result["rows"].items()}}


def test_what_is_there_is_not_trained_again(families, toy, trainings, tmp_path):
    first = ran(families, toy, tmp_path / "a.json", BASE)
    before, stamp = (tmp_path / "a.json").read_bytes(), (tmp_path / "a.json").stat().st_mtime_ns
    assert ran(families, toy, tmp_path / "a.json", BASE) == first
    assert len(trainings.encoders) == 2 and (tmp_path / "a.json").read_bytes() == before
    assert (tmp_path / "a.json").stat().st_mtime_ns == stamp
    ran(families, toy, tmp_path / "a.json", BASE, seeds=(0, 1, 2))
    assert [seed for _, seed, _ in trainings.encoders] == [0, 1, 2]


def test_other_settings_are_refused_and_the_file_stays(families, toy, trainings, tmp_path):
    out = tmp_path / "a.json"
    ran(families, toy, out, BASE, seeds=(0,))
    before = out.read_bytes()
    with pytest.raises(ModelError) as caught:
        ran(families, toy, out, BASE, how=dataclasses.replace(HOW, learning_rate=1e-4))
    assert str(caught.value) == f"{out} was measured with other settings; name another file."
    assert out.read_bytes() == before and len(trainings.encoders) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", json.dumps({"settings": dataclasses.asdict(HOW)})])
def test_file_of_something_else_is_named_and_stays(families, toy, trainings, tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        ran(families, toy, tmp_path / "a.json", BASE)
    assert str(caught.value) == f"{tmp_path / 'a.json'} holds no measurements of an ablation; name another file."
    assert (tmp_path / "a.json").read_text() == content and trainings.encoders == []


def test_unknown_row_is_named_with_those_there_are_before_anything_is_trained(families, toy, trainings, tmp_path):
    for row in ("more steps", DERIVED[0]):
        with pytest.raises(ModelError, match=re.escape(f"There is no row {row!r}; choose of: ours, ")):
            ran(families, toy, tmp_path / "a.json", BASE, row)
    assert trainings.encoders == [] and not (tmp_path / "a.json").exists()


# --- the table ----------------------------------------------------------------------------------


def runs(*figures):
    """Figures (AUC, without same-photo pairs, seconds) by seed."""
    return {str(seed): dict(zip(("auc", "auc_cross_photo", "seconds"), each, strict=False))
            for seed, each in enumerate(figures)}


def test_table_gives_means_deviations_and_differences_run_by_run(monkeypatch):
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    result = {"rows": {
        BASE: runs((0.80, 0.78, 60), (0.84, 0.80, 120), (0.82, 0.82, 180)),
        "more pairs": runs((0.81, 0.79, 90), (0.86, 0.81, 90)),  # a run less
        "frozen encoder, head": runs((0.70, 0.60), (0.72, 0.62), (0.77, 0.64)),
        "slower": runs((0.75, 0.745, 30)), "no averaging": {}}}
    found = ablation.table(result)
    assert found.index.tolist() == ["frozen encoder, head", BASE, "more pairs", "slower"]
    columns = ["AUC", "without same-photo pairs", "against ours", "runs", "minutes"]
    expected = pd.DataFrame([["0.730 ± 0.036", "0.620", "-0.090 ± 0.036", 3, ""],
                             ["0.820 ± 0.020", "0.800", "", 3, "2.0"],
                             ["0.835 ± 0.035", "0.800", "+0.015 ± 0.007", 2, "1.5"],
                             ["0.750 ± 0.000", "0.745", "-0.050 ± 0.000", 1, "0.5"]], found.index, columns)
    pd.testing.assert_frame_equal(found, expected)


def test_table_without_the_base_compares_with_nothing(monkeypatch):
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    found = ablation.table({"rows": {"more pairs": runs((0.8, 0.7, 60), (0.9, 0.8, 60))}})
    assert found.loc["more pairs"].tolist() == ["0.850 ± 0.071", "0.750", "", 2, "1.0"]
