"""Answers to the exercises of lesson 02."""

import itertools
import random

import numpy as np
import pandas as pd

# --- same_family_share --------------------------------------------------------------------------


def share_with_list(pairs):
    same = [a.split("/")[0] == b.split("/")[0] for a, b in pairs]
    return sum(same) / len(same)


def share_with_mean(pairs):
    return np.mean([a.partition("/")[0] == b.partition("/")[0] for a, b in pairs])


def share_with_pandas(pairs):
    table = pd.DataFrame(pairs, columns=["a", "b"])
    return (table["a"].str[:5] == table["b"].str[:5]).mean()


def counts_pairs(pairs):
    return sum(a[:5] == b[:5] for a, b in pairs)


def compares_members(pairs):
    return np.mean([a.split("/")[1] == b.split("/")[1] for a, b in pairs])


def compares_four_letters(pairs):
    return np.mean([a[:4] == b[:4] for a, b in pairs])


def families_that_repeat(pairs):
    return len({a[:5] for a, b in pairs if a[:5] == b[:5]}) / len(pairs)


def in_percent(pairs):
    return 100 * share_with_list(pairs)


# --- rng_of_step --------------------------------------------------------------------------------


def rng_of_tuple(seed, step):
    return np.random.default_rng((seed, step))


def rng_of_list(seed, step):
    return np.random.Generator(np.random.PCG64([seed, step]))


def rng_with_spawn_key(seed, step):
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step,)))


def rng_of_seed(seed, step):
    return np.random.default_rng(seed)


def rng_of_nothing(seed, step):
    return np.random.default_rng()


def rng_of_sum(seed, step):
    return np.random.default_rng(seed + step)


def rng_of_product(seed, step):
    return np.random.default_rng(seed * (step + 1000))


def rng_of_digits(seed, step):
    return np.random.default_rng(int(f"{seed}{step}"))


def rng_of_thousands(seed, step):
    return np.random.default_rng(1000 * seed + step)


def rng_that_skips(seed, step):
    rng = np.random.default_rng(seed)
    rng.random(step)
    return rng


def old_random_state(seed, step):
    return random.Random(f"{seed} {step}")


# --- mirror_where -------------------------------------------------------------------------------


def mirror_copy(faces, chosen):
    changed = faces.copy()
    changed[chosen] = changed[chosen][:, :, ::-1]
    return changed


def mirror_with_loop(faces, chosen):
    return [face[:, ::-1] if flip else face for face, flip in zip(faces, chosen, strict=True)]


def mirror_with_where(faces, chosen):
    return np.where(chosen[:, None, None, None], np.flip(faces, axis=2), faces)


def mirror_in_place(faces, chosen):
    faces[chosen] = faces[chosen][:, :, ::-1]
    return faces


def mirror_upside_down(faces, chosen):
    return np.where(chosen[:, None, None, None], faces[:, ::-1], faces)


def mirror_colours(faces, chosen):
    return np.where(chosen[:, None, None, None], faces[..., ::-1], faces)


def mirror_all(faces, chosen):
    return faces[:, :, ::-1]


def mirror_chosen_only(faces, chosen):
    return faces[chosen][:, :, ::-1]


def mirror_nothing(faces, chosen):
    return faces.copy()


# --- family_weights -----------------------------------------------------------------------------


def weights_with_transform(kin):
    size = kin.groupby("family")["family"].transform("size")
    return 1 / size / kin["family"].nunique()


def weights_with_counts(kin):
    size = kin["family"].map(kin["family"].value_counts()).to_numpy()
    return (1 / size) / (1 / size).sum()


def weights_with_loop(kin):
    families = list(kin["family"])
    return [1 / families.count(family) / len(set(families)) for family in families]


def same_for_rows(kin):
    return np.full(len(kin), 1 / len(kin))


def without_normalising(kin):
    return 1 / kin.groupby("family")["family"].transform("size").to_numpy()


def larger_is_likelier(kin):
    size = kin.groupby("family")["family"].transform("size").to_numpy()
    return size / size.sum()


def by_family(kin):
    counts = kin["family"].value_counts()
    return 1 / len(counts) / counts.repeat(counts).to_numpy()


def one_for_each_family(kin):
    return np.full(kin["family"].nunique(), 1 / kin["family"].nunique())


# --- photo_strangers ----------------------------------------------------------------------------


def strangers_drawn_again(family_of_photo, how_many, rng):
    drawn = rng.integers(len(family_of_photo), size=(how_many, 2))
    while (same := family_of_photo[drawn[:, 0]] == family_of_photo[drawn[:, 1]]).any():
        drawn[same] = rng.integers(len(family_of_photo), size=(same.sum(), 2))
    return drawn


def strangers_one_by_one(family_of_photo, how_many, rng):
    pairs = []
    while len(pairs) < how_many:
        a, b = rng.integers(len(family_of_photo)), rng.integers(len(family_of_photo))
        if family_of_photo[a] != family_of_photo[b]:
            pairs.append((a, b))
    return pairs


def strangers_from_all_pairs(family_of_photo, how_many, rng):
    every = np.argwhere(family_of_photo[:, None] != family_of_photo)
    return every[rng.integers(len(every), size=how_many)]


def second_drawn_again(family_of_photo, how_many, rng):
    drawn = rng.integers(len(family_of_photo), size=(how_many, 2))
    while (same := family_of_photo[drawn[:, 0]] == family_of_photo[drawn[:, 1]]).any():
        drawn[same, 1] = rng.integers(len(family_of_photo), size=same.sum())
    return drawn


def families_first(family_of_photo, how_many, rng):
    pairs = []
    for _ in range(how_many):
        two = rng.choice(np.unique(family_of_photo), 2, replace=False)
        pairs.append([rng.choice(np.flatnonzero(family_of_photo == family)) for family in two])
    return np.array(pairs)


def any_two_photos(family_of_photo, how_many, rng):
    return rng.integers(len(family_of_photo), size=(how_many, 2))


def two_different_photos(family_of_photo, how_many, rng):
    return [rng.choice(len(family_of_photo), 2, replace=False) for _ in range(how_many)]


def sorted_pairs(family_of_photo, how_many, rng):
    return np.sort(strangers_drawn_again(family_of_photo, how_many, rng), axis=1)


def numbers_of_families(family_of_photo, how_many, rng):
    return family_of_photo[strangers_drawn_again(family_of_photo, how_many, rng)]


def without_the_random_state(family_of_photo, how_many, rng):
    return strangers_drawn_again(family_of_photo, how_many, np.random.default_rng())


def fewer_pairs(family_of_photo, how_many, rng):
    drawn = rng.integers(len(family_of_photo), size=(how_many, 2))
    return drawn[family_of_photo[drawn[:, 0]] != family_of_photo[drawn[:, 1]]]


# --- draw_batch ---------------------------------------------------------------------------------


def shuffled(pairs, rng):
    """(a, b, labels) of (a, b, label) in random order."""
    pairs = np.array(pairs)[rng.permutation(len(pairs))]
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def strangers_of(photos, count, rng):
    """Pairs of photos of different families, with label 0."""
    family, pairs = photos["family"].to_numpy(), []
    while len(pairs) < count:
        i, j = rng.integers(len(family), size=2)
        if family[i] != family[j]:
            pairs.append((i, j, 0))
    return pairs


def kin_of(photos, kin, count, rng, cross_photo=True, positions=None):
    """Pairs of photos of kin, with label 1."""
    positions = np.arange(len(photos)) if positions is None else positions
    person, source = photos["person"].to_numpy(), photos["photo_id"].to_numpy()
    pairs = []
    while len(pairs) < count:
        p, q = kin[rng.integers(len(kin))]
        i = rng.choice(np.flatnonzero(person == p))
        j = rng.choice(np.flatnonzero(person == q))
        if source[i] != source[j] or not cross_photo:
            pairs.append((positions[i], positions[j], 1))
    return pairs


def batch_drawn_again(photos, kin, size, rng):
    pairs = kin_of(photos, kin, size // 2, rng) + strangers_of(photos, size // 2, rng)
    return shuffled(pairs, rng)


def batch_as_lists(photos, kin, size, rng):
    rows = list(photos.itertuples(index=False))
    kin = {frozenset(pair) for pair in kin}
    every = list(itertools.permutations(range(len(rows)), 2))
    related, strange = [], []
    for i, j in every:
        one, other = rows[i], rows[j]
        if {one.person, other.person} in kin and one.photo_id != other.photo_id:
            related.append((i, j, 1))
        if one.family != other.family:
            strange.append((i, j, 0))
    pairs = [related[k] for k in rng.integers(len(related), size=size // 2)]
    pairs += [strange[k] for k in rng.integers(len(strange), size=size // 2)]
    rng.shuffle(pairs)
    return [list(side) for side in zip(*pairs, strict=True)]


def batch_with_tables(photos, kin, size, rng):
    photos = photos.reset_index(drop=True).reset_index(names="row")
    both = pd.DataFrame(kin, columns=["p", "q"])
    both = both.merge(photos, left_on="p", right_on="person")
    both = both.merge(photos, left_on="q", right_on="person", suffixes=("_a", "_b"))
    both = both[both["photo_id_a"] != both["photo_id_b"]].sample(
        size // 2, replace=True, random_state=rng.bit_generator
    )
    pairs = [(a, b, 1.0) for a, b in both[["row_a", "row_b"]].itertuples(index=False)]
    return shuffled(pairs + strangers_of(photos, size // 2, rng), rng)


def kin_from_one_photograph(photos, kin, size, rng):
    pairs = kin_of(photos, kin, size // 2, rng, cross_photo=False)
    return shuffled(pairs + strangers_of(photos, size // 2, rng), rng)


def kin_first(photos, kin, size, rng):
    pairs = kin_of(photos, kin, size // 2, rng) + strangers_of(photos, size // 2, rng)
    return [np.array(side) for side in zip(*pairs, strict=True)]


def strangers_not_listed(photos, kin, size, rng):
    person, listed = photos["person"].to_numpy(), {frozenset(pair) for pair in kin}
    pairs = kin_of(photos, kin, size // 2, rng)
    while len(pairs) < size:
        i, j = rng.integers(len(person), size=2)
        if frozenset((person[i], person[j])) not in listed and person[i] != person[j]:
            pairs.append((i, j, 0))
    return shuffled(pairs, rng)


def index_not_position(photos, kin, size, rng):
    index = photos.index.to_numpy()
    pairs = kin_of(photos, kin, size // 2, rng, positions=index)
    pairs += [(index[i], index[j], 0) for i, j, _ in strangers_of(photos, size // 2, rng)]
    return shuffled(pairs, rng)


def draws_for_ever(photos, kin, size, rng):
    person, source = photos["person"].to_numpy(), photos["photo_id"].to_numpy()
    pairs = []
    for _ in range(size // 2):
        p, q = kin[rng.integers(len(kin))]
        i = j = 0
        while source[i] == source[j]:
            i = rng.choice(np.flatnonzero(person == p))
            j = rng.choice(np.flatnonzero(person == q))
        pairs.append((i, j, 1))
    return shuffled(pairs + strangers_of(photos, size // 2, rng), rng)


def shuffles_for_ever(photos, kin, size, rng):
    person, source = photos["person"].to_numpy(), photos["photo_id"].to_numpy()
    pairs = []
    for p, q in rng.permutation(kin)[: size // 2]:
        i = j = 0
        while source[i] == source[j]:
            i, j = (rng.permutation(np.flatnonzero(person == name))[0] for name in (p, q))
        pairs.append((i, j, 1))
    return shuffled(pairs + strangers_of(photos, size // 2, rng), rng)


def batch_as_array(photos, kin, size, rng):
    return np.stack(batch_drawn_again(photos, kin, size, rng))


def rows_not_columns(photos, kin, size, rng):
    return batch_as_array(photos, kin, size, rng).T


def all_kin(photos, kin, size, rng):
    return shuffled(kin_of(photos, kin, size, rng), rng)


def names_not_positions(photos, kin, size, rng):
    a, b, labels = batch_drawn_again(photos, kin, size, rng)
    person = photos["person"].to_numpy()
    return person[a], person[b], labels


def own_random_state(photos, kin, size, rng):
    return batch_drawn_again(photos, kin, size, np.random.default_rng())


RIGHT = {
    "same_family_share": [share_with_list, share_with_mean, share_with_pandas],
    "rng_of_step": [rng_of_tuple, rng_of_list, rng_with_spawn_key],
    "mirror_where": [mirror_copy, mirror_with_loop, mirror_with_where],
    "family_weights": [weights_with_transform, weights_with_counts, weights_with_loop],
    "photo_strangers": [strangers_drawn_again, strangers_one_by_one, strangers_from_all_pairs],
    "draw_batch": [batch_drawn_again, batch_as_lists, batch_with_tables, batch_as_array],
}
WRONG = {
    "same_family_share": [
        (counts_pairs, "as a share"),
        (compares_members, "both are MID3"),
        (compares_four_letters, "the whole name"),
        (families_that_repeat, "each pair counts"),
        (in_percent, "both are of F0007 (got 100"),
    ],
    "rng_of_step": [
        (rng_of_seed, "another step"),
        (rng_of_nothing, "the same seed and step"),
        (rng_of_sum, "run 1 at step 2 is not run 2 at step 1"),
        (rng_of_product, "with seed 0"),
        (rng_of_digits, "run 12 at step 3"),
        (rng_of_thousands, "run 1 at step 1000"),
        (rng_that_skips, "come again in the next"),
        (old_random_state, "np.random.default_rng"),
    ],
    "mirror_where": [
        (mirror_in_place, "work on a copy"),
        (mirror_upside_down, "not top and bottom"),
        (mirror_colours, "not the colours"),
        (mirror_all, "not chosen"),
        (mirror_chosen_only, "one face for each face"),
        (mirror_nothing, "come from the right"),
    ],
    "family_weights": [
        (same_for_rows, "each row is equally likely"),
        (without_normalising, "must sum to 1, not to 2"),
        (larger_is_likelier, "a smaller share"),
        (by_family, "in the order of the rows"),
        (one_for_each_family, "one probability for each row"),
    ],
    "photo_strangers": [
        (second_drawn_again, "draw both photos anew"),
        (families_first, "draw photos, not families"),
        (any_two_photos, "of one family"),
        (two_different_photos, "of one family"),
        (sorted_pairs, "do not sort them"),
        (numbers_of_families, "not numbers of families"),
        (without_the_random_state, "draw from `rng` alone"),
        (fewer_pairs, "one row a pair"),
    ],
    "draw_batch": [
        (kin_from_one_photograph, "two faces of one photograph"),
        (kin_first, "the order must be random"),
        (strangers_not_listed, "label 0 is of one family"),
        (index_not_position, "its index is something else"),
        (draws_for_ever, "draws for ever"),
        (shuffles_for_ever, "draws for ever"),
        (rows_not_columns, "return (a, b, labels), each of length 8"),
        (all_kin, "half of the labels"),
        (names_not_positions, "not made of numbers"),
        (own_random_state, "draw from `rng` alone"),
    ],
}
