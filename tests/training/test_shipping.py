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
from utils.faces import alignment, conditions, detection
from utils.scoring import metrics
from utils.training import ensemble, models, out_of_fold, shipping
from utils.training.encoder import family_means
from utils.training.ensemble import Ensemble

# --- many photos --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped_encoder(shipped):
    return ensemble.load(shipped)


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


def test_near_photos_are_averaged_by_the_encoder_of_identity_beside_the_plain_similarities(
    shipped_encoder, album, backbone
):
    a, b = ([album[name] for name in names] for names in ("ddba", "baca"))
    names = sorted(str(path) for path in album.values())
    frozen = metrics.normalise(backbone.embed(images.read_many(names, 150)))
    table = shipping.embed_faces(shipped_encoder, names, progress=False)
    keys = metrics.near_keys(frozen, table.to_numpy())
    cosines = np.sort((keys @ keys.T)[np.triu_indices(4, 1)])
    # so that two of the photos are taken for one person's
    least = float(cosines[-2:].mean())
    near_photos = {"toy": 0.0, backbone.name: least}  # no weights of a toy are at hand
    model = dataclasses.replace(
        shipped_encoder, facts=shipped_encoder.facts | {"near_photos": near_photos}
    )
    plain, near = shipping.near_similarities(model, a, b, progress=False)
    assert_allclose(plain, shipping.similarities(model, a, b, progress=False), atol=1e-6)
    means = table.copy()
    means[:] = metrics.mean_of_near(table.to_numpy(), keys, least)
    assert (np.abs(means - table).max(axis=1) > 0.02).sum() in (2, 3)
    sides = [means.loc[[str(path) for path in side]].to_numpy() for side in (a, b)]
    assert_allclose(near, model.similarity(*sides), atol=1e-5)
    assert np.abs(near - plain).max() > 1e-3


# --- making one ---------------------------------------------------------------------------------


def face_in_the_middle(photos, *_):
    """What stands in for MTCNN, which takes most of the time: landmarks at fixed places.

    By a pixel of the photo, a quarter of the noses are turned aside.
    """
    faces = []
    for photo in photos:
        places = np.array([(0.32, 0.4), (0.68, 0.4), (0.5, 0.6), (0.36, 0.78), (0.64, 0.78)])
        if photo[0, 0, 0] % 4 == 0:
            places[2] = (0.62, 0.6)
        size = photo.shape[1::-1]
        faces.append([detection.Face((0.0, 0.0, *size), 0.99, places * size)])
    return faces


@pytest.fixture(scope="module")
def small_protocols(families):
    """Small protocols, and a stand-in for MTCNN."""
    held_out = protocols.split_families(families)[1]
    protocol = protocols.make_protocol(families, held_out, 60)
    identity = protocols.make_identity_protocol(families, held_out, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "detect_many", face_in_the_middle)
        patch.setattr(protocols, "protocol_for", lambda _: protocol)
        patch.setattr(protocols, "identity_protocol_for", lambda _: identity)
        yield types.SimpleNamespace(protocol=protocol, identity=identity)


FOLDS = (0, 3)


@pytest.fixture(scope="module", autouse=True)
def few_are_many():
    """Weights of the toys' larger layers are rounded as those of networks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "SMALL", 100)
        yield


@pytest.fixture(scope="module")
def encoders(small, large, make_encoder):
    """Toys of two kinds for two of the folds."""
    made = [make_encoder(large, seed, fold) for seed, fold in enumerate(FOLDS, 1)]
    return made + [make_encoder(small, seed, fold) for seed, fold in enumerate(FOLDS, 4)]


@pytest.fixture(scope="module")
def folds(families, encoders):
    return out_of_fold.embed_folds(families, encoders, progress=False)


@pytest.fixture(scope="module")
def model(families, small_protocols, encoders):
    """What was made of them."""
    before = [encoder.model.get_weights() for encoder in encoders]
    model = shipping.assemble(families, encoders, "both", resamples=5, progress=False)
    for encoder, weights in zip(encoders, before, strict=True):
        # what was given stays as it was
        assert all(map(np.array_equal, encoder.model.get_weights(), weights))
    return model


def aligned_by_hand(model, families, table):
    """The faces of either side of a table's pairs, found and aligned."""
    sides = []
    for column in ("photo_a", "photo_b"):
        photos = [images.read(path) for path in families.paths(table[column])]
        found = zip(photos, face_in_the_middle(photos), strict=True)
        sides.append([alignment.align_face(model, photo, face) for photo, [face] in found])
    return sides


def crops_of(faces):
    return np.stack([face.crop for face in faces])


def similarities_by_hand(model, families, table):
    """Similarity of each pair of a table, its faces found and aligned."""
    sides = aligned_by_hand(model, families, table)
    return model.similarity(*(model.embed(crops_of(side)) for side in sides))


@pytest.fixture(scope="module")
def measured(model, families, small_protocols):
    """Probabilities on the held-out families by hand."""
    kin, identity = (
        model.probability(similarities_by_hand(model, families, table))
        for table in (small_protocols.protocol, small_protocols.identity)
    )
    return types.SimpleNamespace(kin=kin, identity=identity)


def half(array):
    return array.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def soups(encoders):
    """The mean of the encoders of each kind, before it is rounded, in the order of the model."""
    return [out_of_fold.soup(encoders[:2]), out_of_fold.soup(encoders[2:])]


def test_weights_of_each_kind_are_averaged_and_rounded_to_8_bits(model, encoders, large, small):
    assert [member.backbone for member in model.members] == [large, small]
    for member, group in zip(model.members, (encoders[:2], encoders[2:]), strict=True):
        both = zip(*(encoder.model.get_weights() for encoder in group), strict=True)
        for weight, pair in zip(member.model.get_weights(), both, strict=True):
            expected = np.mean(pair, 0)
            if weight.size < 100:
                assert_array_equal(weight, expected)
            else:
                scale = np.abs(expected).max(tuple(range(expected.ndim - 1))) / 127
                assert (np.abs(weight - expected) <= 0.501 * scale).all()


def test_kinds_weigh_and_answers_are_fitted_on_the_folds_alone(model, folds):
    decision = out_of_fold.Decision.fit(folds[:-1], ["toy-large", "toy-small"])
    assert model.weights == tuple(decision.weights.values())
    assert sum(model.weights) == pytest.approx(1) and len(set(model.weights)) == 2
    facts = model.facts
    assert facts["weights"] == pytest.approx(model.weights, abs=1e-6)
    assert (facts["logistic"], facts["threshold"]) == (decision.logistic, decision.threshold)
    assert facts["bands"] == {"unlikely": decision.unlikely, "likely": decision.likely}
    aucs = out_of_fold.near_aucs(folds[:-1], ["toy-large", "toy-small"], "dlib-resnet")
    least = out_of_fold.best_least(aucs)
    assert facts["near_photos"] == {"dlib-resnet": least}


def test_cohort_is_that_of_all_training_families_by_what_is_kept(model, soups, families):
    learned, cohorts = list(protocols.folds_for(families)["family"]), []
    for soup in soups:
        [photos] = datasets.decoded(families, [soup.input_size])
        cohorts.append(family_means(soup, photos, families, learned))
    joined = ensemble.joined(cohorts, model.weights)
    assert joined.shape == (len(learned), 138)
    assert_allclose(model.cohort, half(joined), atol=1e-3)
    assert_array_equal(model.cohort, half(model.cohort))


def test_every_family_is_measured_by_encoders_that_never_saw_it(model, folds):
    expected = out_of_fold.measure(folds, ["toy-large", "toy-small"], resamples=5)
    assert model.facts["out_of_fold"] == expected
    assert list(expected["auc_by_fold"]) == ["0", "3", protocols.HELD_OUT]


def test_rates_and_report_are_those_counted_on_the_held_out_families(
    model, measured, small_protocols
):
    facts, protocol = model.facts, small_protocols.protocol
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
    likely = measured.kin >= facts["bands"]["likely"]
    unlikely = measured.kin < facts["bands"]["unlikely"]
    bands = facts["bands_held_out"]
    shares = (likely.mean(), (~likely & ~unlikely).mean(), unlikely.mean())
    assert_allclose(
        [bands[name] for name in ("likely", "cannot_say", "unlikely")], shares, atol=6e-5
    )


def test_worth_of_faces_unlike_most_is_counted_on_pairs_with_such_a_face(
    model, families, small_protocols, measured
):
    facts, protocol = model.facts["conditions"], small_protocols.protocol
    assert list(facts) == ["turned", *conditions.ALTERED]
    first, second = aligned_by_hand(model, families, protocol)
    turned = [
        any(conditions.turn(face.landmarks) > 0.25 for face in pair)
        for pair in zip(first, second, strict=True)
    ]
    assert 10 < sum(turned) < len(protocol) - 10
    expected = {"turned": (np.array(turned), measured.kin)}
    # the first photo made so, the second as it is
    for name, alter in conditions.ALTERED.items():
        altered = np.stack([alter(face.crop, face.landmarks) for face in first])
        probability = model.score(model.embed(altered), model.embed(crops_of(second)))
        expected[name] = (np.ones(len(protocol), bool), probability)

    kin, threshold = protocol["is_related"].to_numpy() == 1, model.facts["threshold"]
    for name, (counted, probability) in expected.items():
        worth, accepted = facts[name], probability >= threshold
        auc = metrics.roc_auc(kin[counted], probability[counted])
        assert worth["pairs"] == counted.sum()
        assert worth["auc"]["value"] == pytest.approx(auc, abs=6e-5)
        assert worth["auc"]["low"] <= worth["auc"]["value"] <= worth["auc"]["high"]
        rejected, taken = ~accepted[counted & kin], accepted[counted & ~kin]
        assert worth["kin_rejected"]["value"] == pytest.approx(rejected.mean(), abs=6e-5)
        assert worth["strangers_accepted"]["value"] == pytest.approx(taken.mean(), abs=6e-5)


def test_condition_without_pairs_of_kin_and_of_strangers_is_left_out(
    families, small_protocols, model, monkeypatch
):
    held_out = shipping.HeldOut.of(families, model, progress=False)
    monkeypatch.setattr(conditions, "MOST_TURN", 9.0)
    measured = held_out.measure(model, resamples=2)
    assert list(measured["conditions"]) == list(conditions.ALTERED)


def aucs_by_hand(encoder, families, protocol):
    labels, apart = protocol["is_related"].to_numpy(), (protocol["same_photo"] == 0).to_numpy()
    scores = similarities_by_hand(encoder, families, protocol)
    return {
        "auc": pytest.approx(metrics.roc_auc(labels, scores), abs=6e-5),
        "auc_cross_photo": pytest.approx(metrics.roc_auc(labels[apart], scores[apart]), abs=6e-5),
    }


def test_what_rounding_costs_is_told_by_what_it_was_worth_before(
    model, soups, folds, families, small_protocols
):
    cohorts = list(folds[-1].cohorts.values())[:2]
    cohort = ensemble.joined(cohorts, model.weights)
    exact = Ensemble(tuple(soups), model.weights, {}, cohort)
    expected = aucs_by_hand(exact, families, small_protocols.protocol)
    assert model.facts["before_rounding"] == expected
    after = model.facts["report"]["auc"]["value"]
    assert after == pytest.approx(model.facts["before_rounding"]["auc"], abs=0.02)


def test_each_kind_is_measured_on_the_held_out_families_by_itself(
    model, encoders, soups, folds, families, small_protocols
):
    groups = {"toy-large": encoders[:2], "toy-small": encoders[2:]}
    for facts, soup, (name, group) in zip(
        model.facts["members"], soups, groups.items(), strict=True
    ):
        assert facts["encoder"] == name
        assert facts["runs"] == [
            {key: encoder.facts[key] for key in ("fold", "seed", "val_auc")} for encoder in group
        ]
        # faces are found once for all, in the size of the model, and then resized
        alone = OneMember(soup, folds[-1].cohorts[name], model)
        worth = aucs_by_hand(alone, families, small_protocols.protocol)
        assert {key: facts[key] for key in worth} == worth
        assert len(facts) == 4


class OneMember:
    """A member by itself, on faces that were cut out for the whole model."""

    def __init__(self, embedder, cohort, model):
        self.embedder, self.cohort = embedder, cohort
        self.template, self.input_size = model.template, model.input_size

    def embed(self, faces):
        return self.embedder.embed(ensemble.resized(faces, self.embedder.input_size))

    def similarity(self, a, b):
        return metrics.csls(a, b, self.cohort)


def test_families_are_compared_by_the_share_of_their_kin_that_is_accepted(
    model, measured, small_protocols
):
    protocol = small_protocols.protocol.assign(accepted=measured.kin >= model.facts["threshold"])
    kin = protocol[protocol["is_related"] == 1]
    by_family = kin.groupby(kin["photo_a"].str.split("/").str[1])["accepted"]
    shares = [accepted.mean() for _, accepted in by_family if len(accepted) >= 10]
    found = model.facts["by_family"]
    assert found["families"] == len(shares) > 1 and found["pairs_at_least"] == 10
    assert_allclose(found["kin_accepted"], np.quantile(shares, [0, 0.25, 0.5, 0.75, 1]), atol=6e-5)


def test_those_taken_for_kin_are_counted_by_kind(model, measured, small_protocols):
    kinds = small_protocols.identity["kind"]
    accepted = measured.identity >= model.facts["threshold"]
    taken = {kind: rate["value"] for kind, rate in model.facts["taken_for_kin"].items()}
    assert list(taken) == list(protocols.PAIR_KINDS) and len(set(taken.values())) > 1
    for kind, rate in taken.items():
        assert_allclose(rate, accepted[kinds == kind].mean(), atol=6e-5)


def test_facts_say_what_it_was_made_of_and_make_a_file_that_can_be_read(
    model, small, large, families, tmp_path
):
    facts = model.facts
    known = {
        "name": "both",
        "version": __version__,
        "encoders": ["toy-large", "toy-small"],
        "fingerprints": [large.fingerprint, small.fingerprint],
        "preprocessing": ["signed", "unit"],
        "data": "synthetic",
        "settings": {"toy-large": {"steps": 2}, "toy-small": {"steps": 2}},
    }
    assert known.items() <= facts.items()
    text = json.dumps(facts, allow_nan=False)
    assert len(text) < 8000
    ensemble.save(model, tmp_path / "both.npz")
    loaded = ensemble.load(tmp_path / "both.npz")
    assert loaded.facts == json.loads(text)
    assert_array_equal(loaded.cohort, model.cohort)
    faces = datasets.decoded(families, [datasets.PHOTO_SIZE])[0][:8]
    assert_allclose(loaded.embed(faces), model.embed(faces), atol=1e-6)


def test_encoders_that_lack_a_fold_are_refused(families, encoders):
    with pytest.raises(ModelError, match=r"^Of toy-large there are encoders of the folds \[0\], "):
        shipping.assemble(families, [encoders[0], *encoders[2:]], "both")
    with pytest.raises(ModelError, match="^Encoders of two folds at least are needed"):
        shipping.assemble(families, encoders[:1], "one")
