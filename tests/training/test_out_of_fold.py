"""Every family is scored by encoders, and by decisions, that never saw it."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils.data import datasets, protocols
from utils.data.protocols import HELD_OUT
from utils.errors import ModelError
from utils.faces.backbones import DEFAULT
from utils.scoring import metrics
from utils.settings import cache_dir
from utils.training import out_of_fold
from utils.training.encoder import family_means
from utils.training.models import FaceEmbedder
from utils.training.out_of_fold import FROZEN, Decision, FoldEmbeddings, bands

KEY = f"{FROZEN}{DEFAULT}"  # what says which photos look like one person's

# --- decisions ----------------------------------------------------------------------------------


def made_fold(fold, seed, pairs=60):
    """Random embeddings by two encoders and by ``KEY``; kin are a little nearer than strangers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(pairs) % 2
    embeddings = {}
    for name, size, nearness in (("one", 8, 0.8), ("two", 20, 0.5), (KEY, 6, 0.3)):
        first, second = rng.normal(size=(2, pairs, size))
        second[labels == 1] += nearness * first[labels == 1]
        rows = np.concatenate([first, second]).astype(np.float32)
        embeddings[name] = metrics.normalise(rows)
    cohorts = {name: metrics.normalise(rng.normal(size=(15, 8))) for name in ("one",)}
    cohorts["two"] = metrics.normalise(rng.normal(size=(15, 20)))
    family = rng.integers(0, 9, pairs).astype(str)
    other = np.where(labels == 1, family, rng.integers(9, 18, pairs).astype(str))
    table = pd.DataFrame(
        {
            "photo_a": [f"train/F{name}/MID1/P1.jpg" for name in family],
            "photo_b": [f"train/F{name}/MID2/P2.jpg" for name in other],
            "is_related": labels,
            "same_photo": (rng.random(pairs) < 0.3).astype(int) * labels,
            "fold": fold,
        }
    )
    return FoldEmbeddings(
        fold,
        table,
        np.arange(pairs),
        np.arange(pairs, 2 * pairs),
        rng.integers(0, 50, 2 * pairs).astype(str),
        embeddings,
        cohorts | {KEY: None},
    )


@pytest.fixture(scope="module")
def made():
    """Three folds, and held-out families."""
    return [made_fold(fold, seed) for seed, fold in enumerate(["0", "1", "2", HELD_OUT])]


def by_hand(fold, name):
    """Similarities by one encoder."""
    rows = fold.embeddings[name].astype(np.float64)
    return metrics.csls(rows[fold.a], rows[fold.b], fold.cohorts[name])


def relabelled(fold):
    """The fold with other labels."""
    labels = np.roll(fold.labels, 7)
    assert (labels != fold.labels).any()
    return dataclasses.replace(fold, pairs=fold.pairs.assign(is_related=labels))


def test_similarity_of_several_is_the_mean_of_their_cosines_against_one_cohort(made):
    fold, weights = made[0], {"one": 0.3, "two": 0.7}
    joined, cohort = [], []
    for name, weight in weights.items():
        joined.append(weight**0.5 * fold.embeddings[name])
        cohort.append(weight**0.5 * fold.cohorts[name])
    rows = np.hstack(joined)
    cosine = np.zeros(60)
    for name, weight in weights.items():
        rows_of = fold.embeddings[name]
        cosine += weight * metrics.cosine(rows_of[fold.a], rows_of[fold.b])
    assert_allclose(metrics.cosine(rows[fold.a], rows[fold.b]), cosine, atol=1e-6)
    expected = metrics.csls(rows[fold.a], rows[fold.b], np.hstack(cohort))
    assert_allclose(fold.similarities(weights), expected, atol=1e-6)
    assert_allclose(fold.similarities({"one": 1.0}), by_hand(fold, "one"), atol=1e-6)


def test_one_that_has_no_cohort_leaves_the_cosine_alone(made):
    fold = made[0]
    rows = fold.embeddings[KEY]
    expected = metrics.cosine(rows[fold.a], rows[fold.b])
    assert_allclose(fold.similarities({KEY: 1.0}), expected, atol=1e-6)


def test_decision_by_hand(made):
    folds = made[:2]
    decision = Decision.fit(folds, ["one", "two"])
    labels = np.concatenate([fold.labels for fold in folds])
    apart = []
    for name in ("one", "two"):
        apart.append(np.concatenate([by_hand(fold, name) for fold in folds]))
    weights = metrics.fusion_weights(labels, np.column_stack(apart))
    assert list(decision.weights) == ["one", "two"]
    assert list(decision.weights.values()) == pytest.approx(weights, rel=1e-4)
    scores = np.concatenate([fold.similarities(decision.weights) for fold in folds])
    assert decision.logistic == metrics.fit_logistic(labels, scores)
    shift, slope = decision.logistic
    probabilities = 1 / (1 + np.exp(-(shift + slope * scores)))
    assert decision.threshold == pytest.approx(metrics.best_threshold(labels, probabilities))
    assert (decision.unlikely, decision.likely) == pytest.approx(bands(labels, probabilities))
    given = np.concatenate([decision.probabilities(fold) for fold in folds])
    assert_allclose(given, probabilities, rtol=1e-9)


def test_single_encoder_weighs_one(made):
    assert Decision.fit(made[:2], ["two"]).weights == {"two": 1.0}


ANSWERS = ["probability", "related", "band"]


@pytest.mark.parametrize("names", [["one"], ["one", "two"]], ids=["one", "both"])
def test_labels_of_a_fold_have_no_part_in_its_own_answers(made, names):
    before = out_of_fold.scored(made, names)
    changed = [made[0], relabelled(made[1]), *made[2:]]
    after = out_of_fold.scored(changed, names)
    own = (before["fold"] == "1").to_numpy()
    assert (before.loc[own, "is_related"] != after.loc[own, "is_related"]).any()
    pd.testing.assert_frame_equal(after.loc[own, ANSWERS], before.loc[own, ANSWERS])
    for fold in ("0", "2", HELD_OUT):
        other = (before["fold"] == fold).to_numpy()
        assert not after.loc[other, ANSWERS].equals(before.loc[other, ANSWERS]), fold


def test_held_out_families_have_no_part_in_any_answer(made):
    before = out_of_fold.scored(made, ["one", "two"])
    after = out_of_fold.scored([*made[:3], relabelled(made[3])], ["one", "two"])
    pd.testing.assert_frame_equal(after[ANSWERS], before[ANSWERS])
    another = out_of_fold.scored([*made[:3], made_fold(HELD_OUT, 77)], ["one", "two"])
    inside = (before["fold"] != HELD_OUT).to_numpy()
    pd.testing.assert_frame_equal(another.loc[inside, ANSWERS], before.loc[inside, ANSWERS])
    assert not another.loc[~inside, ANSWERS].equals(before.loc[~inside, ANSWERS])


def test_answers_follow_from_the_decision_fitted_on_the_other_folds(made):
    table = out_of_fold.scored(made, ["one", "two"])
    assert table["fold"].tolist() == np.repeat(["0", "1", "2", HELD_OUT], 60).tolist()
    for fold, others in zip(made, (made[1:3], made[0:3:2], made[:2], made[:3]), strict=True):
        decision, rows = Decision.fit(others, ["one", "two"]), table[table["fold"] == fold.fold]
        probability = decision.probabilities(fold)
        assert_array_equal(rows["probability"], probability)
        assert_array_equal(rows["related"], probability >= decision.threshold)
        assert_array_equal(rows["band"] == 1, probability >= decision.likely)
        assert_array_equal(rows["band"] == -1, probability < decision.unlikely)
        assert set(rows["band"]) <= {-1, 0, 1}


# --- bands --------------------------------------------------------------------------------------

TENTHS = np.arange(0.05, 1, 0.1)  # 0.05 to 0.95


@pytest.mark.parametrize(
    "probabilities, labels, errors, expected",
    [
        # from 0.65 up one of four is a stranger, from 0.55 up two of five
        (TENTHS, [0, 0, 1, 0, 1, 0, 1, 1, 0, 1], 0.25, (0.45, 0.65)),
        # below 0.25 none is kin, below 0.35 one of three; only the last has no stranger above
        (TENTHS, [0, 0, 1, 0, 1, 0, 1, 1, 0, 1], 0.0, (0.25, 0.95)),
        # bands reach beyond a wrong pair as long as their share stays small
        (TENTHS, [1, 0, 0, 0, 0, 1, 1, 1, 1, 0], 0.2, (0.5, 0.5)),
        (TENTHS, [0] * 5 + [1] * 5, 0.1, (0.5, 0.5)),
        (TENTHS, [1] * 5 + [0] * 5, 0.1, (0.0, 1.0)),
        (TENTHS, [1] * 10, 0.1, (0.0, 0.5)),
        (TENTHS, [0] * 10, 0.1, (0.5, 1.0)),
        (TENTHS, [1, 0] * 5, 1.0, (0.5, 0.5)),
        # nobody is on that side
        ([0.6, 0.7], [1, 1], 0.1, (0.0, 0.5)),
        ([0.3, 0.4], [0, 0], 0.1, (0.5, 1.0)),
        # equal probabilities are on one side, whatever their order
        ([0.6, 0.6, 0.6, 0.9], [1, 1, 0, 1], 0.0, (0.0, 0.9)),
        ([0.6, 0.6, 0.6, 0.9], [0, 1, 1, 1], 0.25, (0.0, 0.5)),
        ([0.2, 0.4, 0.4, 0.4], [0, 1, 0, 0], 0.2, (0.4, 1.0)),
        ([0.5, 0.5], [1, 0], 0.1, (0.0, 1.0)),
    ],
)
def test_bands_by_hand(probabilities, labels, errors, expected):
    found = bands(np.array(labels), np.array(probabilities, float), errors)
    assert found == pytest.approx(expected)
    turned = bands(np.array(labels)[::-1], np.array(probabilities, float)[::-1], errors)
    assert turned == found


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([*np.linspace(0.01, 0.99, 23)])),
        min_size=1,
        max_size=60,
    ),
    errors=st.sampled_from([0.0, 0.05, 0.1, 0.3]),
)
def test_bands_are_never_wrong_more_often_than_allowed_and_never_wider_than_could_be(
    pairs, errors
):
    labels, probabilities = map(np.array, zip(*pairs, strict=True))
    unlikely, likely = bands(labels, probabilities, errors)
    assert 0 <= unlikely <= 0.5 <= likely <= 1
    above, below = labels[probabilities >= likely], labels[probabilities < unlikely]
    assert not len(above) or np.mean(1 - above) <= errors
    assert not len(below) or np.mean(below) <= errors
    # no cut further in would do
    for cut in probabilities[(probabilities >= 0.5) & (probabilities < likely)]:
        assert np.mean(1 - labels[probabilities >= cut]) > errors
    for cut in probabilities[(probabilities <= 0.5) & (probabilities > unlikely)]:
        outside = labels[probabilities < cut]
        assert not len(outside) or np.mean(outside) > errors


# --- several photos of a person -----------------------------------------------------------------


def test_weights_may_come_from_elsewhere_and_the_rest_is_fitted_with_them(made):
    folds, weights = made[:2], {"two": 0.8, "one": 0.2}
    decision = Decision.with_weights(folds, weights)
    assert decision.weights == weights
    labels = np.concatenate([fold.labels for fold in folds])
    scores = np.concatenate([fold.similarities(weights) for fold in folds])
    assert decision.logistic == metrics.fit_logistic(labels, scores)
    assert decision != Decision.fit(folds, ["two", "one"])


def few_people():
    """Seven photos of four people, whose embeddings have two numbers."""
    rows = np.float32([[1, 0], [0, 1], [0.6, 0.8], [1, 0], [0, 1], [-1, 0], [0.8, 0.6]])
    keys = np.float32([[1, 0], [0.99, 0.141], [0, 1], [0, 1], [0.6, 0.8], [-1, 0], [0, -1]])
    people = np.array(["b", "a", "b", "c", "a", "d", "a"])
    pairs = pd.DataFrame({"is_related": [1, 0, 1, 0], "same_photo": [0] * 4})
    ends = np.array([0, 1, 2, 6]), np.array([3, 5, 4, 0])
    embeddings = {"one": rows, "two": rows + 1, KEY: metrics.normalise(keys)}
    return FoldEmbeddings("0", pairs, *ends, people, embeddings, {"one": None})


def test_averaged_photos_are_the_mean_of_their_person():
    fold = few_people()
    averaged = fold.averaged()
    a, b = np.array([0.8, 2.6]) / 3, np.array([1.6, 0.8]) / 2
    expected = [b, a, b, [1, 0], a, [-1, 0], a]
    assert_allclose(averaged.embeddings["one"], expected, atol=1e-6)
    assert_array_equal(fold.embeddings["one"], few_people().embeddings["one"])
    assert_array_equal(averaged.people, fold.people)
    assert averaged.pairs is fold.pairs and averaged.fold == fold.fold


def test_people_are_means_of_photos_and_every_encoder_keeps_its_weight():
    fold, weights = few_people(), {"one": 0.25, "two": 0.75}
    # opposite photos leave a short mean under one encoder, not under the other
    groups = [np.array([0, 2]), np.array([3, 5, 6]), np.array([4])]
    people = fold.people_joined(groups, weights)
    for row, photos in enumerate(groups):
        parts = []
        for name, weight in weights.items():
            mean = fold.embeddings[name][photos].astype(np.float64).mean(0)
            parts.append(weight**0.5 * mean / np.linalg.norm(mean))
        assert_allclose(people[row], np.concatenate(parts), atol=1e-6)
    together = fold.averaged().joined(weights)
    everyone = fold.people_joined([np.array([0, 2]), np.array([1, 4, 6])], weights)
    assert_allclose(together[[0, 1]], everyone, atol=1e-6)


def test_photos_are_averaged_with_those_that_look_like_one_person_without_any_name():
    fold = dataclasses.replace(few_people(), people=None)
    rows, identity = fold.embeddings["one"], fold.embeddings[KEY]
    near = fold.averaged_where_near(0.8, {"one": 1.0}, DEFAULT).embeddings
    assert list(near) == ["one"]
    expected = metrics.mean_of_near(rows, metrics.near_keys(identity, rows), 0.8)
    assert_allclose(near["one"], expected, atol=1e-6)
    assert np.abs(near["one"] - rows).max() > 0.1
    alone = fold.averaged_where_near(1.1, {"one": 1.0}, DEFAULT).embeddings["one"]
    assert_allclose(alone, rows, atol=1e-6)
    # a photo that is in no pair is not looked at: the fourth to the seventh, but the sixth
    listed = dataclasses.replace(fold, a=np.array([0, 1]), b=np.array([2, 5]))
    seen = [0, 1, 2, 5]
    near = listed.averaged_where_near(0.8, {"one": 1.0}, DEFAULT).embeddings["one"]
    keys = metrics.near_keys(identity[seen], rows[seen])
    assert_allclose(near[seen], metrics.mean_of_near(rows[seen], keys, 0.8), atol=1e-6)
    assert_array_equal(near[[3, 4, 6]], rows[[3, 4, 6]])
    assert_array_equal(fold.embeddings["one"], few_people().embeddings["one"])


def test_encoders_that_answer_together_also_say_together_which_photos_are_near():
    fold = few_people()
    weights = {"two": 0.3, "one": 0.7}
    near = fold.averaged_where_near(0.8, weights, DEFAULT).embeddings
    one, two = fold.embeddings["one"], fold.embeddings["two"]
    own = np.concatenate([0.3**0.5 * metrics.normalise(two), 0.7**0.5 * one], 1)
    keys = metrics.near_keys(fold.embeddings[KEY], own)
    assert list(near) == ["two", "one"]
    for name, rows in (("one", one), ("two", two)):
        assert_allclose(near[name], metrics.mean_of_near(rows, keys, 0.8), atol=1e-6)


def test_nearness_is_chosen_that_gives_the_best_mean_auc(made, monkeypatch):
    folds = made[:2]
    # two photos of a person under KEY alone: a photo again, a little moved
    monkeypatch.setattr(out_of_fold, "LEAST", tuple(np.linspace(0.3, 0.9, 11)))
    moved = []
    for number, fold in enumerate(folds):
        keys = fold.embeddings[KEY].copy()
        noise = np.random.default_rng(number).normal(scale=0.12, size=keys[60:].shape)
        keys[60:] = metrics.normalise(keys[:60] + noise)
        moved.append(dataclasses.replace(fold, embeddings=fold.embeddings | {KEY: keys}))
    weights = Decision.fit(moved, ["one", "two"]).weights
    means = []
    for least in out_of_fold.LEAST:
        near = [fold.averaged_where_near(least, weights, DEFAULT) for fold in moved]
        aucs = [metrics.roc_auc(fold.labels, fold.similarities(weights)) for fold in near]
        means.append(np.mean(aucs))
    assert len(set(means)) > 3
    best = out_of_fold.LEAST[int(np.argmax(means))]
    table = out_of_fold.near_aucs(moved, ["one", "two"], DEFAULT)
    assert table.index.tolist() == list(out_of_fold.LEAST) and list(table) == ["0", "1"]
    assert_allclose(table.mean(axis=1), means, rtol=1e-12)
    assert out_of_fold.best_least(table) == best


def test_pairs_are_grouped_by_the_photos_of_whoever_has_fewer():
    # photos of a: 1, of b: 2, of c: 6, of d: 7
    people = np.array(["a", *"bb", *"cccccc", *"ddddddd"])
    sides = {"a": 0, "b": 1, "c": 3, "d": 9}
    rows = [("a", "d", 1, 0.9), ("c", "a", 0, 0.1), ("d", "a", 0, 0.95), ("b", "c", 1, 0.5)]
    rows += [("c", "d", 1, 0.7), ("d", "c", 0, 0.2)]
    a, b = (np.array([sides[row[side]] for row in rows]) for side in (0, 1))
    labels, scores = (np.array([row[column] for row in rows]) for column in (2, 3))
    folds = []
    for part in (slice(0, 2), slice(2, 6)):  # counted fold by fold
        pairs = pd.DataFrame({"is_related": labels[part]})
        folds.append(FoldEmbeddings("0", pairs, a[part], b[part], people, {}, {}))
    # with one photo: kin at 0.9 against strangers at 0.1 and 0.95; of b's there are no strangers
    expected = {"1": 0.5, "5 or more": 1.0}
    assert out_of_fold._by_photos(folds, labels, scores) == expected


# --- families and encoders ----------------------------------------------------------------------

FOLDS = (0, 1, 3)


@pytest.fixture(scope="module")
def encoders(small, large, make_encoder):
    """Toys of two kinds for three of the folds, in no order."""
    made = [make_encoder(small, seed, fold) for seed, fold in enumerate(FOLDS)]
    made += [make_encoder(large, seed, fold) for seed, fold in enumerate(reversed(FOLDS), 5)]
    return made


@pytest.fixture(scope="module")
def embedded(families, encoders):
    return out_of_fold.embed_folds(families, encoders, progress=False)


def of_fold(encoders, name, fold):
    [found] = [
        encoder
        for encoder in encoders
        if encoder.backbone.name == name and encoder.facts["fold"] == fold
    ]
    return found


@pytest.fixture(scope="module")
def photos(families):
    """All photos in the size of either toy."""
    small, large = datasets.decoded(families, [12, 16])
    return {"toy-small": small, "toy-large": large}


def rows_of(fold, families):
    """Rows of the photos of the fold's families, from the pairs alone."""
    names = {*np.concatenate(protocols.pair_families(fold.pairs))}
    return np.flatnonzero(families.photos["family"].isin(names))


def test_each_fold_is_embedded_by_the_encoders_that_never_saw_it(
    embedded, encoders, families, photos
):
    table, folds = protocols.out_of_fold_for(families), protocols.folds_for(families)
    assert [part.fold for part in embedded] == ["0", "1", "3", HELD_OUT]
    for part, fold in zip(embedded, FOLDS, strict=False):
        expected = table[table["fold"] == str(fold)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.pairs, expected)
        own = set(folds.loc[folds["fold"] == fold, "family"])
        assert {*np.concatenate(protocols.pair_families(part.pairs))} <= own
        rows = rows_of(part, families)
        for name, crops in photos.items():
            encoder = of_fold(encoders, name, fold)
            assert_allclose(part.embeddings[name], encoder.embed(crops[rows]), atol=1e-6)
            assert part.cohorts[name] is encoder.cohort
        names = families.photos["path"].to_numpy()[rows]
        assert names[part.a].tolist() == part.pairs["photo_a"].tolist()
        assert names[part.b].tolist() == part.pairs["photo_b"].tolist()
        assert part.people.tolist() == families.photos["person"].to_numpy()[rows].tolist()


def test_held_out_families_are_scored_by_the_mean_of_all_weights(
    embedded, encoders, families, photos
):
    part = embedded[-1]
    rows = rows_of(part, families)
    learned = list(protocols.folds_for(families)["family"])
    assert {*families.photos["family"].to_numpy()[rows]}.isdisjoint(learned)
    for name, crops in photos.items():
        group = [of_fold(encoders, name, fold) for fold in FOLDS]
        network = group[0].backbone.build(None)
        weights = [encoder.model.get_weights() for encoder in group]
        network.set_weights([np.mean(each, 0) for each in zip(*weights, strict=True)])
        soup = FaceEmbedder(network, group[0].backbone)
        assert_allclose(part.embeddings[name], soup.embed(crops[rows]), atol=1e-5)
        cohort = family_means(soup, crops, families, learned)
        assert cohort.shape == (len(learned), soup.embedding_size)
        assert_allclose(part.cohorts[name], cohort, atol=1e-5)


def test_encoders_of_further_runs_score_a_fold_by_the_mean_of_their_weights(
    encoders, small, families, photos, make_encoder
):
    second = [make_encoder(small, 50 + fold, fold) for fold in FOLDS]
    once = [encoder for encoder in encoders if encoder.backbone.name == "toy-large"]
    first = [of_fold(encoders, "toy-small", fold) for fold in FOLDS]
    parts = out_of_fold.embed_folds(families, [*second, *once, *first], progress=False)
    table = protocols.folds_for(families)
    for part, fold in zip(parts, FOLDS, strict=False):
        both = (of_fold(first, "toy-small", fold), of_fold(second, "toy-small", fold))
        soup, crops = out_of_fold.soup(both), photos["toy-small"]
        expected = soup.embed(crops[rows_of(part, families)])
        assert_allclose(part.embeddings["toy-small"], expected, atol=1e-5)
        # against all families that both have learned from
        learned = list(table.loc[table["fold"] != fold, "family"])
        cohort = family_means(soup, crops, families, learned)
        assert_allclose(part.cohorts["toy-small"], cohort, atol=1e-5)
        # another kind may have been trained once
        assert part.cohorts["toy-large"] is of_fold(once, "toy-large", fold).cohort
    all_six = out_of_fold.soup([*first, *second])
    expected = all_six.embed(photos["toy-small"][rows_of(parts[-1], families)])
    assert_allclose(parts[-1].embeddings["toy-small"], expected, atol=1e-5)


def test_frozen_encoder_embeds_as_it_was_published(embedded, families, family_embeddings):
    for part in embedded:
        expected = metrics.normalise(family_embeddings[rows_of(part, families)])
        assert_allclose(part.embeddings[KEY], expected, atol=1e-6)
        assert part.cohorts[KEY] is None


def files():
    return {path.name for path in (cache_dir() / "out_of_fold").glob("*")}


def test_what_was_embedded_is_read_from_the_cache_and_another_network_is_embedded_anew(
    embedded, encoders, families, monkeypatch, make_encoder
):
    def embed(self, faces, *rest, **options):
        counts.append(len(faces))
        return real(self, faces, *rest, **options)

    counts, real, before = [], FaceEmbedder.embed, files()
    # the folds by their encoders, the held-out families and their cohort by the soups
    monkeypatch.setattr(FaceEmbedder, "embed", embed)
    again = out_of_fold.embed_folds(families, encoders, progress=False)
    assert counts == [] and files() == before
    for part, expected in zip(again, embedded, strict=True):
        for name in expected.embeddings:
            assert_array_equal(part.embeddings[name], expected.embeddings[name])
    # one encoder is another: its fold, and the soup that it is part of
    replaced = make_encoder(encoders[1].backbone, 99, encoders[1].facts["fold"])
    counts.clear()
    changed = [encoders[0], replaced, *encoders[2:]]
    other = out_of_fold.embed_folds(families, changed, progress=False)
    assert len(counts) > 0 and len(files() - before) == 3 and before < files()
    for number, part in enumerate(other):
        rows, expected = part.embeddings["toy-small"], embedded[number].embeddings["toy-small"]
        assert np.array_equal(rows, expected) == (number in (0, 2))


def test_embeddings_of_photos_standardised_otherwise_are_not_taken_from_the_cache(
    encoders, families
):
    embedder = encoders[0].embedder
    other = types.SimpleNamespace(fingerprint="toy-small-other-0123456789ab")
    rows = [1, 2]
    path = out_of_fold._cache_file(families, embedder, rows)
    assert path == out_of_fold._cache_file(families, embedder, rows)
    changed = dataclasses.replace(embedder, backbone=other)
    assert out_of_fold._cache_file(families, changed, rows) != path
    assert out_of_fold._cache_file(families, embedder, [1, 3]) != path


def test_damaged_file_of_the_cache_is_made_again(tmp_path):
    path = tmp_path / "new" / "rows.npy"
    for spoil in (lambda: None, lambda: path.write_bytes(b""), lambda: path.write_bytes(b"junk")):
        spoil()
        assert_array_equal(out_of_fold._cached(path, lambda: np.arange(3)), [0, 1, 2])
        assert_array_equal(np.load(path), [0, 1, 2])
    assert_array_equal(out_of_fold._cached(path, None), [0, 1, 2])


@pytest.mark.parametrize("key", ["fingerprint", "preprocessing", "settings", "data"])
def test_encoders_of_a_kind_that_were_not_trained_alike_are_refused(encoders, key):
    facts = encoders[1].facts | {key: "another"}
    given = [encoders[0], dataclasses.replace(encoders[1], facts=facts), *encoders[2:]]
    message = f"^The encoders of toy-small differ in their {key}; train them alike.$"
    with pytest.raises(ModelError, match=message):
        out_of_fold.by_backbone(given)


def test_encoder_without_a_cohort_is_refused(encoders):
    given = [dataclasses.replace(encoders[0], cohort=None), *encoders[1:]]
    with pytest.raises(ModelError, match="^An encoder of toy-small has no cohort; train it again"):
        out_of_fold.by_backbone(given)


def test_encoders_of_other_data_are_refused(families, encoders):
    given = []
    for each in encoders:
        given.append(dataclasses.replace(each, facts=each.facts | {"data": "kaggle"}))
    message = r"trained on other data \(kaggle, not synthetic\), and may know its families; name"
    with pytest.raises(ModelError, match=message):
        out_of_fold.embed_folds(families, given, progress=False)


def test_missing_fold_is_named(families, encoders):
    message = (
        r"^Of toy-small there are encoders of the folds \[0, 3\], of others \[0, 1, 3\]; name "
        r"equally many encoders of a backbone for each fold\.$"
    )
    given = [encoders[0], *encoders[2:]]
    for refuse in (
        out_of_fold.by_backbone,
        lambda given: out_of_fold.embed_folds(families, given),
    ):
        with pytest.raises(ModelError, match=message):
            refuse(given)


def test_two_encoders_of_one_fold_and_one_of_another_are_refused(encoders, small, make_encoder):
    second = make_encoder(small, 60, 1)
    with pytest.raises(ModelError, match=r"Of toy-small there are .* the folds \[0, 1, 1, 3\]"):
        out_of_fold.by_backbone([second, *encoders])


def test_an_encoder_that_is_there_twice_is_refused(encoders):
    with pytest.raises(ModelError, match="^An encoder of toy-small is there twice, of one fold"):
        out_of_fold.by_backbone([*encoders[:3], *encoders])


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_folds_are_refused(encoders, count):
    with pytest.raises(
        ModelError,
        match="^Encoders of two folds at least are needed; train them with: train folds",
    ):
        out_of_fold.by_backbone(encoders[:count])


# --- the table ----------------------------------------------------------------------------------


def test_rows_are_each_encoder_and_those_of_a_kind_together(made):
    def rows(*names):
        fold = dataclasses.replace(made[0], embeddings=dict.fromkeys(names))
        return out_of_fold.combinations([fold])

    assert rows("a", "b") == {"a": ["a"], "b": ["b"], "all encoders": ["a", "b"]}
    assert rows("a", "frozen a") == {"a": ["a"], "frozen a": ["frozen a"]}
    # one that is not tuned is a row of its own, and no part of any other
    assert "frozen all encoders" not in rows("a", "b", "frozen a", "frozen c")
    both = rows("a", "b", "frozen a", "frozen b")
    assert both["frozen all encoders"] == ["frozen a", "frozen b"]
    assert both["all encoders"] == ["a", "b"] and len(both) == 6


def test_measured_numbers_are_those_of_the_scored_pairs(made):
    names = ["one", "two"]
    measured = out_of_fold.measure(made, names, resamples=5)
    table = out_of_fold.scored(made, names)
    labels, probability = table["is_related"].to_numpy(), table["probability"].to_numpy()
    related = table["related"].to_numpy()

    def auc(rows):
        return round(metrics.roc_auc(rows["is_related"], rows["probability"]), 4)

    assert measured["auc"]["value"] == pytest.approx(auc(table), abs=6e-5)
    apart = table[table["same_photo"] == 0]
    assert len(apart) < len(table)
    assert measured["auc_cross_photo"]["value"] == pytest.approx(auc(apart), abs=6e-5)
    held_out = table[table["fold"] == HELD_OUT]
    assert measured["auc_held_out"]["value"] == pytest.approx(auc(held_out), abs=6e-5)
    assert measured["auc_by_fold"] == {fold: auc(rows) for fold, rows in table.groupby("fold")}
    together = []
    for fold in made:
        known = [other for other in made if other.fold not in (fold.fold, HELD_OUT)]
        # the weights are those of single photos
        weights = Decision.fit(known, names).weights
        decision = Decision.with_weights([other.averaged() for other in known], weights)
        together.append(fold.pairs.assign(probability=decision.probabilities(fold.averaged())))
    together = pd.concat(together)
    whole = measured["auc_all_photos_of_a_person"]["value"]
    assert whole == pytest.approx(auc(together), abs=6e-5)
    assert measured["accuracy"] == round(np.mean(related == (labels == 1)), 4)
    assert measured["kin_rejected"] == round(1 - related[labels == 1].mean(), 4)
    assert measured["strangers_accepted"] == round(related[labels == 0].mean(), 4)
    error = metrics.calibration_error(labels, probability)
    assert measured["calibration_error"] == pytest.approx(error, abs=6e-5)
    found, band = measured["bands"], table["band"]
    assert found["likely"] == round((band == 1).mean(), 4)
    assert found["likely"] + found["cannot_say"] + found["unlikely"] == pytest.approx(1, abs=2e-4)
    kin_among_unlikely = labels[band == -1].mean() if (band == -1).any() else 0
    assert found["kin_among_unlikely"] == pytest.approx(kin_among_unlikely, abs=6e-5)


def test_shares_of_wrong_answers_are_zero_where_no_answer_was_given():
    found = out_of_fold.band_shares(np.array([0, 1]), np.array([0, 0]))
    assert found == {
        "likely": 0.0,
        "cannot_say": 1.0,
        "unlikely": 0.0,
        "strangers_among_likely": 0.0,
        "kin_among_unlikely": 0.0,
    }
    found = out_of_fold.band_shares(np.array([0, 1, 1, 0]), np.array([1, 1, -1, 0]))
    assert (found["strangers_among_likely"], found["kin_among_unlikely"]) == (0.5, 1.0)
    assert (found["likely"], found["cannot_say"], found["unlikely"]) == (0.5, 0.25, 0.25)


def test_the_best_encoder_of_identity_that_embedded_says_who_is_near(made):
    assert out_of_fold.identity_of(made) == DEFAULT
    best = made[0].embeddings | {f"{FROZEN}edgeface": None, f"{FROZEN}sface": None}
    assert out_of_fold.identity_of([dataclasses.replace(made[0], embeddings=best)]) == "edgeface"


def test_near_photos_are_averaged_as_was_chosen_on_the_other_folds(made, monkeypatch):
    asked = []
    monkeypatch.setattr(
        out_of_fold,
        "best_least",
        lambda aucs: asked.append(list(aucs)) or 1.1,
    )
    near = out_of_fold._scored_where_near(made, ["one"])
    # nothing is as near as that, so nothing is averaged
    expected = out_of_fold.scored(made, ["one"])
    assert_allclose(near["probability"], expected["probability"], atol=1e-6)
    assert asked == [["1", "2"], ["0", "2"], ["0", "1"], ["0", "1", "2"]]


def test_real_folds_are_measured_and_printed(embedded):
    measured = {}
    for name, members in out_of_fold.combinations(embedded).items():
        measured[name] = out_of_fold.measure(embedded, members, resamples=3)
    rows = ["toy-small", "toy-large", KEY, "all encoders"]
    assert list(measured) == rows
    text = out_of_fold.table(measured)
    assert text.index.tolist() == rows
    assert text["accuracy"].tolist() == [f"{measured[row]['accuracy']:.3f}" for row in rows]
    # the encoder of identity tells synthetic relatives apart, random toys do not
    assert measured[KEY]["auc"]["value"] > 0.75
