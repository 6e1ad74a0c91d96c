"""One model is made of several encoders, and is measured on families that had no part in it."""

import dataclasses
import json
import types

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import __version__, images
from utils.data import datasets, protocols, scenes
from utils.errors import ModelError
from utils.faces import alignment, detection
from utils.scoring import metrics
from utils.training import models, shipping
from utils.training.callbacks import WatchedFold
from utils.training.encoder import family_means

FOLD_PAIRS = 40

# --- many photos --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped_encoder(shipped):
    return models.load_shipped(shipped)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Files: a person (d), a relative (b), nobody (c), a stranger (a)."""
    folder = tmp_path_factory.mktemp("album")
    photos = {
        "d": scenes.two_photos("relatives", 3)[0],
        "b": scenes.two_photos("relatives", 3)[1],
        "c": np.random.default_rng(0).integers(100, 140, (90, 120, 3), np.uint8),
        "a": scenes.two_photos("strangers", 3)[1],
    }
    for name, photo in photos.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(photo))
    return {name: folder / f"{name}.jpg" for name in photos}


@pytest.fixture
def counts(monkeypatch):
    """Numbers of faces that an encoder is given, call by call."""
    numbers, embed = [], models.FaceEmbedder.embed

    def counted(self, faces, *rest, **options):
        numbers.append(len(faces))
        return embed(self, faces, *rest, **options)

    monkeypatch.setattr(models.FaceEmbedder, "embed", counted)
    return numbers


@pytest.fixture(scope="module")
def album_crops(shipped_encoder, album):
    """The largest face of each photo by hand, and the whole photo where there is none."""
    crops = {}
    for name, path in album.items():
        photo = images.read(path)
        faces = detection.detect(photo)
        assert (not faces) == (name == "c")
        if faces:
            crops[name] = alignment.align_face(shipped_encoder, photo, faces[0]).crop
        else:
            crops[name] = images.resize(photo, 150)
    return crops


def test_each_photo_is_embedded_once_by_its_largest_face_or_whole_where_nobody_is(
    shipped_encoder, album, album_crops, counts, monkeypatch
):
    monkeypatch.setattr(shipping, "CHUNK", 3)
    paths = [album["d"], str(album["b"]), album["c"], album["a"], album["d"], str(album["c"])]
    table = shipping.embed_faces(shipped_encoder, paths, progress=False)
    assert counts == [3, 1]
    assert table.index.tolist() == sorted(str(path) for path in album.values())
    assert table.shape == (4, 128)
    expected = shipped_encoder.embed(np.stack([album_crops[name] for name in "dbc"]))
    assert_allclose(table.loc[[str(album[name]) for name in "dbc"]], expected, atol=1e-4)


def test_similarities_follow_the_pairs(shipped_encoder, album, album_crops, counts):
    a, b = ([album[name] for name in names] for names in ("ddbc", "badd"))
    similarities = shipping.similarities(
        shipped_encoder, a, [str(path) for path in b], progress=False
    )
    assert counts == [4] and similarities.shape == (4,)
    first, second = (np.stack([album_crops[name] for name in names]) for names in ("ddbc", "badd"))
    expected = shipped_encoder.similarity(
        shipped_encoder.embed(first), shipped_encoder.embed(second)
    )
    assert_allclose(similarities, expected, atol=1e-4)
    assert_allclose(similarities[0], similarities[2], atol=1e-6)
    assert len(np.unique(similarities.round(4))) == 3


# --- making one ---------------------------------------------------------------------------------


def face_in_the_middle(photos, *_):
    """What stands in for MTCNN, which takes most of the time: landmarks at fixed places."""
    places = np.array([(0.32, 0.4), (0.68, 0.4), (0.5, 0.6), (0.36, 0.78), (0.64, 0.78)])
    faces = []
    for photo in photos:
        size = photo.shape[1::-1]
        faces.append([detection.Face((0.0, 0.0, *size), 0.99, places * size)])
    return faces


def trained(small, families, seed, fold):
    """An encoder with weights of its own, as if it had been trained without a fold."""
    model = small.build()
    *others, kernel, bias = model.get_weights()
    kernel = np.random.default_rng(seed).normal(size=kernel.shape)
    [photos] = datasets.decoded(families, [12])
    # embeddings around 0, so that cosines spread
    model.set_weights([*others, kernel, 0 * bias])
    model.set_weights([*others, kernel, -model.predict_on_batch(photos / 256).mean(0)])
    facts = {
        "encoder": "toy-small",
        "fingerprint": small.fingerprint,
        "preprocessing": "unit",
        "data": "synthetic",
        "settings": {"steps": 2},
        "fold": fold,
        "seed": seed,
        "val_auc": 0.5 + seed / 100,
    }
    embedder = models.FaceEmbedder(model, small)
    learned = WatchedFold.of(families, fold, 10).families
    return models.Encoder(model, facts, small, family_means(embedder, photos, families, learned))


@pytest.fixture(scope="module")
def small_protocols(families):
    """Small protocols, and a stand-in for MTCNN."""
    held_out = protocols.split_families(families)[1]
    protocol = protocols.make_protocol(families, held_out, 60)
    identity = protocols.make_identity_protocol(families, held_out, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "detect_many", face_in_the_middle)
        patch.setattr(shipping, "FOLD_PAIRS", FOLD_PAIRS)
        patch.setattr(protocols, "protocol_for", lambda _: protocol)
        patch.setattr(protocols, "identity_protocol_for", lambda _: identity)
        yield types.SimpleNamespace(protocol=protocol, identity=identity)


@pytest.fixture(scope="module")
def two_encoders(families, small):
    return [trained(small, families, 1, 0), trained(small, families, 2, 3)]


@pytest.fixture(scope="module", params=[True, False], ids=["averaged", "side-by-side"])
def assembled(request, families, small, small_protocols, two_encoders):
    """What was made of two encoders, and one encoder that computes what they compute."""
    before = [encoder.model.get_weights() for encoder in two_encoders]
    encoders, facts, cohort = shipping.assemble(
        families, two_encoders, "both", request.param, resamples=5, progress=False
    )
    for encoder, weights in zip(two_encoders, before, strict=True):
        # what was given stays as it was
        assert all(map(np.array_equal, encoder.model.get_weights(), weights))
    model = models.joined([encoder.model for encoder in encoders])
    whole = models.Encoder(model, facts, small, cohort)
    return types.SimpleNamespace(
        averaged=request.param, encoders=encoders, facts=facts, cohort=cohort, whole=whole
    )


def similarities_by_hand(encoder, families, table):
    """Similarity of each pair of a table."""
    sides = []
    for column in ("photo_a", "photo_b"):
        photos = [images.read(path) for path in families.paths(table[column])]
        crops = [
            alignment.align(photo, face.landmarks, encoder.template, 12)
            for photo, [face] in zip(photos, face_in_the_middle(photos), strict=True)
        ]
        sides.append(encoder.embed(np.stack(crops)))
    return encoder.similarity(*sides)


@pytest.fixture(scope="module")
def measured(assembled, families, small_protocols):
    """Probabilities on the held-out families by hand."""
    kin, identity = (
        assembled.whole.probability(similarities_by_hand(assembled.whole, families, table))
        for table in (small_protocols.protocol, small_protocols.identity)
    )
    return types.SimpleNamespace(kin=kin, identity=identity)


def rounded(weights):
    return [weight.astype(np.float16).astype(np.float32) for weight in weights]


@pytest.fixture(scope="module")
def exact_weights(assembled, two_encoders):
    """The weights of what is kept, before they are rounded."""
    weights = [encoder.model.get_weights() for encoder in two_encoders]
    if assembled.averaged:
        return [[np.mean(members, 0) for members in zip(*weights, strict=True)]]
    return weights


def test_weights_are_averaged_or_kept_and_rounded_to_half_precision(assembled, exact_weights):
    assert len(assembled.encoders) == len(exact_weights)
    for encoder, weights in zip(assembled.encoders, exact_weights, strict=True):
        for weight, expected in zip(encoder.model.get_weights(), rounded(weights), strict=True):
            assert weight.dtype == np.float32
            assert_array_equal(weight, expected)


def test_cohort_is_that_of_all_training_families_by_what_is_kept(
    assembled, exact_weights, families, small
):
    networks = [small.build(None) for _ in exact_weights]
    for network, weights in zip(networks, exact_weights, strict=True):
        network.set_weights(weights)
    embedder = models.FaceEmbedder(models.joined(networks), small)
    learned = list(protocols.folds_for(families)["family"])
    [photos] = datasets.decoded(families, [12])
    means = family_means(embedder, photos, families, learned)
    assert means.shape == (len(learned), 8 * len(networks))
    assert_array_equal(assembled.cohort, rounded([means])[0])


def test_logistic_and_threshold_are_those_of_each_encoders_own_fold(
    assembled, two_encoders, families
):
    labels, scores = [], []
    for encoder in two_encoders:
        folds, fold = protocols.folds_for(families), encoder.facts["fold"]
        pairs = protocols.fold_protocol(families, folds, fold, FOLD_PAIRS)
        labels.append(pairs["is_related"])
        scores.append(similarities_by_hand(encoder, families, pairs))
    labels, scores = np.concatenate(labels), np.concatenate(scores)
    shift, slope = assembled.facts["logistic"]
    assert_allclose((shift, slope), metrics.fit_logistic(labels, scores), atol=2e-3)
    best = metrics.best_threshold(labels, 1 / (1 + np.exp(-(shift + slope * scores))))
    assert_allclose(assembled.facts["threshold"], best, atol=1e-4)


def test_rates_and_report_are_those_counted_on_the_held_out_families(
    assembled, measured, small_protocols
):
    facts, protocol = assembled.facts, small_protocols.protocol
    kin, accepted = protocol["is_related"] == 1, measured.kin >= facts["threshold"]
    rejected, taken = 1 - accepted[kin].mean(), accepted[~kin].mean()
    assert 0 < rejected < 1 and taken > 0
    assert_allclose(facts["rates"]["kin_rejected"]["value"], rejected, atol=6e-5)
    assert_allclose(facts["rates"]["strangers_accepted"]["value"], taken, atol=6e-5)
    for rate in facts["rates"].values():
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    report = facts["report"]
    assert_allclose(report["auc"]["value"], metrics.roc_auc(kin, measured.kin), atol=6e-5)
    assert_allclose(report["brier"], metrics.brier(kin, measured.kin), atol=6e-5)
    assert report["pairs"] == len(protocol) and report["name"] == "both"
    assert_allclose(facts["reliability"], metrics.reliability(kin, measured.kin), atol=6e-5)
    for name in ("auc", "auc_cross_photo"):
        assert_allclose(facts["before_rounding"][name], report[name]["value"], atol=0.02)


def test_each_encoder_is_measured_on_the_held_out_families_by_itself(
    assembled, two_encoders, families, small_protocols
):
    protocol = small_protocols.protocol
    labels, apart = protocol["is_related"].to_numpy(), (protocol["same_photo"] == 0).to_numpy()
    for encoder, facts in zip(two_encoders, assembled.facts["members"], strict=True):
        scores = similarities_by_hand(encoder, families, protocol)
        assert facts == {
            "fold": encoder.facts["fold"],
            "seed": encoder.facts["seed"],
            "val_auc": encoder.facts["val_auc"],
            "auc": pytest.approx(metrics.roc_auc(labels, scores), abs=2e-3),
            "auc_cross_photo": pytest.approx(
                metrics.roc_auc(labels[apart], scores[apart]), abs=2e-3
            ),
        }


def test_families_are_compared_by_the_share_of_their_kin_that_is_accepted(
    assembled, measured, small_protocols
):
    protocol = small_protocols.protocol.assign(
        accepted=measured.kin >= assembled.facts["threshold"]
    )
    kin = protocol[protocol["is_related"] == 1]
    by_family = kin.groupby(kin["photo_a"].str.split("/").str[1])["accepted"]
    shares = [accepted.mean() for _, accepted in by_family if len(accepted) >= 10]
    found = assembled.facts["by_family"]
    assert found["families"] == len(shares) > 1 and found["pairs_at_least"] == 10
    assert_allclose(found["kin_accepted"], np.quantile(shares, [0, 0.25, 0.5, 0.75, 1]), atol=6e-5)


def test_those_taken_for_kin_are_counted_by_kind(assembled, measured, small_protocols):
    kinds = small_protocols.identity["kind"]
    accepted = measured.identity >= assembled.facts["threshold"]
    taken = {kind: rate["value"] for kind, rate in assembled.facts["taken_for_kin"].items()}
    assert list(taken) == list(protocols.PAIR_KINDS) and len(set(taken.values())) > 1
    for kind, rate in taken.items():
        assert_allclose(rate, accepted[kinds == kind].mean(), atol=6e-5)


def test_facts_say_what_it_was_made_of_and_make_a_file_that_can_be_read(
    assembled, small, families, tmp_path
):
    facts = assembled.facts
    known = {
        "name": "both",
        "version": __version__,
        "encoder": "toy-small",
        "fingerprint": small.fingerprint,
        "preprocessing": "unit",
        "data": "synthetic",
        "settings": {"steps": 2},
        "averaged": assembled.averaged,
    }
    assert known.items() <= facts.items() and len(json.dumps(facts)) < 4000
    assert all(encoder.facts == facts for encoder in assembled.encoders)
    models.save_shipped(assembled.encoders, facts, tmp_path / "both.npz", assembled.cohort)
    loaded = models.load_shipped(tmp_path / "both.npz")
    assert loaded.facts == json.loads(json.dumps(facts))
    assert_array_equal(loaded.cohort, assembled.cohort)
    faces = datasets.decoded(families, [12])[0][:8]
    assert_allclose(loaded.embed(faces), assembled.whole.embed(faces), atol=1e-5)


def test_encoders_of_different_backbones_are_refused(families, two_encoders):
    first, second = two_encoders
    other = dataclasses.replace(second, facts=second.facts | {"fingerprint": "small-000000000000"})
    with pytest.raises(
        ModelError, match=r"^These encoders are of different backbones; name encoders of one\.$"
    ):
        shipping.assemble(families, [first, other], "both")
