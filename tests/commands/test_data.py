"""Verbs on families and their photos."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from utils import images, settings
from utils.data import datasets, eigenfaces, protocols, synthetic


def test_families_are_made_where_asked(run, tmp_path):
    out = tmp_path / "made"
    arguments = ["--families", 20, "--children", "1", "--photos", "1-2", "--out", out]
    facts = run("families", *arguments, "--json")
    assert (facts["folder"], facts["families"]) == (str(out), 20)
    assert facts["photos"] == len(datasets.load(out).photos)
    manifest = synthetic.manifest(out)
    assert (manifest["photos"], manifest["children"]) == ([1, 2], [1, 1])


def test_families_of_the_default_folder_are_made_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "DATA", tmp_path)
    arguments = ["families", "--families", 20, "--children", "1", "--photos", "1"]
    assert re.search(r"families: 20 families, \d+ people, .* \(made in ", run(*arguments))
    before = (tmp_path / "families/manifest.json").stat()
    assert run(*arguments, "--seed", 5).endswith("(there already)\n")
    assert (tmp_path / "families/manifest.json").stat() == before


def test_families_are_never_written_over(refused, clean):
    sentence = refused("families", "--out", clean)
    assert "exists already; delete it or name another folder" in sentence


def test_audit_prints_what_the_data_holds(run, families_root):
    facts = run("audit", "--data", families_root, "--json")
    defects = synthetic.manifest(families_root)["defects"]
    assert facts["people_without_photos"] == defects["people_without_photos"]
    assert facts["photos"]["unreadable"] == 1
    row = r"relationships +people listed without photos +4\n"
    assert re.search(row, run("audit", "--data", families_root))


def test_audit_writes_its_figures(run, medium, tmp_path):
    run("audit", "--data", medium, "--figures", tmp_path / "new")
    for name in ("audit.png", "family.png"):
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")


def test_data_come_from_the_environment_when_they_are_not_named(run, medium, monkeypatch):
    monkeypatch.setenv("KIN_DATA", str(medium))
    assert run("audit", "--json")["families"]["families_with_photos"] == 14


def test_protocol_writes_pairs_and_folds_that_can_be_read(run, clean, families, tmp_path):
    printed = run("protocol", "--data", clean, "--out", tmp_path)
    pairs = protocols.read_protocol(tmp_path / "f09_pairs.csv", families)
    identity = protocols.read_identity_protocol(tmp_path / "f09_identity.csv", families)
    folds = pd.read_csv(tmp_path / "folds.csv")
    assert folds.equals(protocols.folds_for(families))
    every = pd.read_csv(tmp_path / "out_of_fold.csv")
    assert every.equals(protocols.out_of_fold_for(families))
    assert len(list(tmp_path.iterdir())) == 4
    assert printed == (
        f"{tmp_path}: {len(pairs)} pairs ({pairs['same_photo'].sum()} of one photograph), "
        f"{len(folds)} families in folds, {len(identity)} pairs to verify identity on, "
        f"{len(every)} pairs of every family\n"
    )
    facts = run("protocol", "--data", clean, "--out", tmp_path, "--json")
    counts = (facts["pairs"], facts["families"], facts["identity_pairs"])
    assert counts == (len(pairs), len(folds), len(identity))


def test_place_that_cannot_be_written_is_one_sentence(refused, clean, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in refused("protocol", "--data", clean, "--out", file / "new")


def test_eigenfaces_are_built_from_photos(run, few, tmp_path):
    out = tmp_path / "e.npz"
    facts = run("eigenfaces", "--data", few, "--components", 5, "--out", out, "--json")
    assert eigenfaces.load(out).components.shape[0] == facts["components"] == 5
    assert facts["used"] + facts["without_face"] + facts["too_turned"] == facts["photos"]


def test_quality_sets_synthetic_beside_real_and_draws_families(run, few, tmp_path):
    picture = tmp_path / "new" / "families.jpg"
    facts = run("quality", "--data", few, "--real", few, "--picture", picture, "--json")
    assert facts["synthetic"] == facts["real"]
    assert facts["privacy"]["synthetic_under_distance_percent"] == 100
    assert min(images.read(picture).shape[:2]) > 100
    assert "faces_found_percent" in run("quality", "--data", few)


@pytest.mark.parametrize("verb", ["audit", "quality", "eigenfaces"])
def test_missing_data_are_one_sentence(refused, tmp_path, verb):
    sentence = refused(verb, "--data", tmp_path / "nowhere")
    assert "nowhere does not exist; name the Kaggle archive" in sentence


def test_half_an_archive_is_one_sentence(refused, tmp_path, clean):
    archive = Path(shutil.make_archive(tmp_path / "half", "zip", clean))
    archive.write_bytes(archive.read_bytes()[:100_000])
    sentence = refused("audit", "--data", archive)
    assert "half.zip is not a whole zip archive; download it again" in sentence


# --- triples ------------------------------------------------------------------------------------


def test_triples_are_counted_and_judged_where_the_truth_is_known(run, families_root, tmp_path):
    out = tmp_path / "new" / "triples.csv"
    facts = run("triples", "--data", families_root, "--out", out, "--json")
    assert facts == {
        "candidates": 96,
        "clear": 35,
        "precision": {"candidates": round(62 / 96, 4), "clear": round(33 / 35, 4)},
    }
    lines = out.read_text().splitlines()
    assert lines[0] == "a,b,child" and len(lines) == 36
    assert run("triples", "--data", families_root) == (
        "96 candidates, 35 that nothing competes with; parents with their child are 64.6% and "
        "94.3%\n"
    )


def test_triples_of_data_without_known_truth_are_only_counted(run, medium):
    facts = run("triples", "--data", medium, "--json")
    assert list(facts) == ["candidates", "clear"] and facts["candidates"] >= facts["clear"] > 0
