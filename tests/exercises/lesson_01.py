"""Answers to the exercises of lesson 01."""

import random
from collections import Counter

import numpy as np
import pandas as pd

# --- absent_people ------------------------------------------------------------------------------


def with_comprehension(rows, people):
    return {person for pair in rows for person in pair} - people


def with_loop(rows, people):
    absent = set()
    for a, b in rows:
        for person in (a, b):
            if person not in people:
                absent.add(person)
    return absent


def with_pandas(rows, people):
    names = pd.DataFrame(rows).to_numpy().ravel()
    return frozenset(name for name in names if name not in people)


def first_only(rows, people):
    return {a for a, _ in rows} - people


def second_only(rows, people):
    return {b for _, b in rows} - people


def other_difference(rows, people):
    return people - {person for pair in rows for person in pair}


def both_absent(rows, people):
    return {a for a, b in rows if a not in people and b not in people}


def listed_twice(rows, people):
    return [person for pair in rows for person in pair if person not in people]


# --- not_listed ---------------------------------------------------------------------------------


def with_frozensets(people, rows):
    import itertools

    kin = {frozenset(row) for row in rows}
    pairs = itertools.combinations(sorted(people), 2)
    return [pair for pair in pairs if frozenset(pair) not in kin]


def with_both_orders(people, rows):
    kin = {tuple(row) for row in rows} | {(b, a) for a, b in rows}
    names = list(people)
    pairs = []
    for i in range(len(names)):
        for j in range(i):
            if (names[i], names[j]) not in kin:
                pairs.append([names[i], names[j]])
    return pairs


def as_set_of_sets(people, rows):
    kin = {frozenset(row) for row in rows}
    return {frozenset((a, b)) for a in people for b in people if a != b} - kin


def one_order(people, rows):
    names, kin = sorted(people), {tuple(row) for row in rows}
    every = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [pair for pair in every if pair not in kin]


def each_pair_twice(people, rows):
    kin = {frozenset(row) for row in rows}
    return [(a, b) for a in people for b in people if a != b and frozenset((a, b)) not in kin]


def with_oneself(people, rows):
    kin, names = {frozenset(row) for row in rows}, sorted(people)
    every = [(a, b) for i, a in enumerate(names) for b in names[i:]]
    return [pair for pair in every if frozenset(pair) not in kin]


def with_families(people, rows):
    pairs = []
    for a in people:
        for b in people:
            same_family = a.split("/")[0] == b.split("/")[0]
            if same_family and a < b and (a, b) not in rows and (b, a) not in rows:
                pairs.append((a, b))
    return pairs


def rows_as_lists(people, rows):
    names = sorted(people)
    every = [[a, b] for i, a in enumerate(names) for b in names[i + 1 :]]
    return [pair for pair in every if pair not in rows and pair[::-1] not in rows]


def the_listed(people, rows):
    return [tuple(row) for row in rows]


def people_without_kin(people, rows):
    return sorted(people - {person for row in rows for person in row})


# --- same_photo_chance --------------------------------------------------------------------------


def chance_with_loops(ids_a, ids_b):
    together = 0
    for a in ids_a:
        for b in ids_b:
            together += a == b
    return together / (len(ids_a) * len(ids_b))


def chance_with_counters(ids_a, ids_b):
    a, b = Counter(ids_a), Counter(ids_b)
    return sum(a[photo] * b[photo] for photo in a) / (len(ids_a) * len(ids_b))


def chance_with_arrays(ids_a, ids_b):
    return (np.array(ids_a)[:, None] == np.array(ids_b)).mean()


def chance_of_ids(ids_a, ids_b):
    return len(set(ids_a) & set(ids_b)) / (len(ids_a) * len(ids_b))


def jaccard(ids_a, ids_b):
    return len(set(ids_a) & set(ids_b)) / len(set(ids_a) | set(ids_b))


def share_of_a(ids_a, ids_b):
    return sum(photo in ids_b for photo in ids_a) / len(ids_a)


def any_common(ids_a, ids_b):
    return float(bool(set(ids_a) & set(ids_b)))


# --- leaks --------------------------------------------------------------------------------------


def leaks_with_sets(table, train_families, test_families):
    train = set(table.loc[table["family"].isin(train_families), "sha256"])
    return len(train & set(table.loc[table["family"].isin(test_families), "sha256"]))


def leaks_with_loop(table, train_families, test_families):
    train, test = set(), set()
    for family, content in zip(table["family"], table["sha256"], strict=True):
        if family in train_families:
            train.add(content)
        if family in test_families:
            test.add(content)
    return len(train.intersection(test))


def leaks_with_merge(table, train_families, test_families):
    train = table[table["family"].isin(train_families)]
    test = table[table["family"].isin(test_families)]
    return train.merge(test, on="sha256")["sha256"].nunique()


def leaks_counting_test_files(table, train_families, test_families):
    train = table.loc[table["family"].isin(train_families), "sha256"]
    test = table.loc[table["family"].isin(test_families), "sha256"]
    return int(test.isin(train).sum())


def leaks_counting_training_files(table, train_families, test_families):
    train = table.loc[table["family"].isin(train_families), "sha256"]
    test = table.loc[table["family"].isin(test_families), "sha256"]
    return int(train.isin(test).sum())


def repeated_anywhere(table, train_families, test_families):
    rows = table[table["family"].isin([*train_families, *test_families])]
    return rows.loc[rows["sha256"].duplicated(), "sha256"].nunique()


def everything_else_is_test(table, train_families, test_families):
    in_train = table["family"].isin(train_families)
    return len(set(table.loc[in_train, "sha256"]) & set(table.loc[~in_train, "sha256"]))


# --- must_be_kin --------------------------------------------------------------------------------


def kin_with_counter(pairs):
    split = [pair.split("-") for pair in pairs]
    first = Counter(a for a, _ in split)
    return [first[a] == 1 or first[b] == 0 for a, b in split]


def kin_with_pandas(pairs):
    table = pd.Series(pairs).str.split("-", expand=True)
    times = table[0].value_counts()
    return (table[0].map(times).eq(1) | ~table[1].isin(table[0])).to_numpy()


def kin_with_loops(pairs):
    answers = []
    for i, pair in enumerate(pairs):
        others = {other.split("-")[0] for j, other in enumerate(pairs) if j != i}
        answers.append(not set(pair.split("-")) <= others)
    return tuple(answers)


def counts_its_own_pair(pairs):
    first = {pair.split("-")[0] for pair in pairs}
    return [not set(pair.split("-")) <= first for pair in pairs]


def needs_both(pairs):
    split = [pair.split("-") for pair in pairs]
    first = Counter(a for a, _ in split)
    return [first[a] == 1 and first[b] == 0 for a, b in split]


def second_needs_two(pairs):
    split = [pair.split("-") for pair in pairs]
    first = Counter(a for a, _ in split)
    return [first[a] == 1 or first[b] <= 1 for a, b in split]


def in_no_other_pair(pairs):
    split = [pair.split("-") for pair in pairs]
    times = Counter(photo for pair in split for photo in pair)
    first = Counter(a for a, _ in split)
    return [first[a] == 1 or times[b] == 1 for a, b in split]


def pairs_of_kin(pairs):
    return [pair for pair, kin in zip(pairs, kin_with_counter(pairs), strict=True) if kin]


def how_many_are_kin(pairs):
    return sum(kin_with_counter(pairs))


def may_be_strangers(pairs):
    return [not answer for answer in kin_with_counter(pairs)]


# --- family_split -------------------------------------------------------------------------------


def split_with_loop(families, share, rng):
    names = sorted(set(families))
    rng.shuffle(names)
    test = set()
    while sum(family in test for family in families) < share * len(families):
        test.add(names.pop())
    return set(names), test


def split_with_cumsum(families, share, rng):
    names, counts = np.unique(families, return_counts=True)
    order = rng.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    held = before < share * len(families)
    return set(names[order[~held]]), set(names[order[held]])


def split_as_lists(families, share, rng):
    test, count = [], Counter(families)
    for family in rng.permutation(sorted(count)):
        if sum(count[name] for name in test) < share * len(families):
            test.append(family)
    return [name for name in count if name not in test], test


def splits_photos(families, share, rng):
    order = rng.permutation(families)
    held = int(np.ceil(share * len(families)))
    return set(order[held:]), set(order[:held])


def share_of_families(families, share, rng):
    order = rng.permutation(sorted(set(families)))
    held = int(np.ceil(share * len(order)))
    return set(order[held:]), set(order[:held])


def one_too_few(families, share, rng):
    names = list(rng.permutation(sorted(set(families))))
    test = set()
    while sum(family in test | {names[-1]} for family in families) <= share * len(families):
        test.add(names.pop())
    return set(names), test


def order_of_photos(families, share, rng):
    test = set()
    for family in rng.permutation(families):
        if sum(name in test for name in families) < share * len(families):
            test.add(family)
    return set(families) - test, test


def one_too_many(families, share, rng):
    names = list(rng.permutation(sorted(set(families))))
    test = set()
    while sum(family in test for family in families) <= share * len(families):
        test.add(names.pop())
    return set(names), test


def sides_exchanged(families, share, rng):
    train, test = split_with_loop(families, share, rng)
    return test, train


def in_order_of_names(families, share, rng):
    names = sorted(set(families))
    test = set()
    while sum(family in test for family in families) < share * len(families):
        test.add(names.pop())
    return set(names), test


def another_random_state(families, share, rng):
    return split_with_loop(families, share, random.Random())


RIGHT = {
    "absent_people": [with_comprehension, with_loop, with_pandas],
    "not_listed": [with_frozensets, with_both_orders, as_set_of_sets, with_families],
    "same_photo_chance": [chance_with_loops, chance_with_counters, chance_with_arrays],
    "leaks": [leaks_with_sets, leaks_with_loop, leaks_with_merge],
    "must_be_kin": [kin_with_counter, kin_with_pandas, kin_with_loops],
    "family_split": [split_with_loop, split_with_cumsum, split_as_lists],
}
WRONG = {
    "absent_people": [
        (first_only, "look at the second of each pair"),
        (second_only, "look at the first of each pair"),
        (other_difference, "nobody is absent"),
        (both_absent, "look at the first of each pair"),
        (listed_twice, "each person once"),
    ],
    "not_listed": [
        (one_order, "a row counts in either order"),
        (each_pair_twice, "each pair once"),
        (with_oneself, "nobody makes a pair with themselves"),
        (rows_as_lists, "rows are tuples"),
        (the_listed, "a pair of `rows` is in the answer"),
        (people_without_kin, "all pairs that no row names"),
    ],
    "same_photo_chance": [
        (chance_of_ids, "A was cut from P2 twice"),
        (jaccard, "3 × 2 ways"),
        (share_of_a, "3 × 2 ways"),
        (any_common, "3 × 2 ways"),
    ],
    "leaks": [
        (leaks_counting_test_files, "twice in the test"),
        (leaks_counting_training_files, "twice in the training"),
        (repeated_anywhere, "twice on one side"),
        (everything_else_is_test, "no content lies in both"),
    ],
    "must_be_kin": [
        (counts_its_own_pair, "each photo stands first once"),
        (needs_both, "one such photo is enough"),
        (second_needs_two, "once is enough"),
        (in_no_other_pair, "stands first in neither"),
        (pairs_of_kin, "True or False for each pair"),
        (how_many_are_kin, "True or False for each pair"),
        (may_be_strangers, "not another one"),
    ],
    "family_split": [
        (splits_photos, "on both sides"),
        (share_of_families, "count photos, not families"),
        (one_too_few, "take one more family"),
        (order_of_photos, "not the photos"),
        (one_too_many, "at least the share is enough"),
        (sides_exchanged, "training families first"),
        (in_order_of_names, "must be random"),
        (another_random_state, "draw from `rng` alone"),
    ],
}
