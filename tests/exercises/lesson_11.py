"""Answers to the exercises of lesson 11."""

import itertools

import numpy as np
import pandas as pd

# --- pairwise_f1 --------------------------------------------------------------------------------


def f1_of(right, joined, same):
    precision = right / joined if joined else 1
    recall = right / same if same else 1
    return precision, recall, 2 * precision * recall / (precision + recall or 1)


def f1_by_triangle(truth, found):
    a, b = np.triu_indices(len(truth), 1)
    same, joined = truth[a] == truth[b], found[a] == found[b]
    return f1_of((same & joined).sum(), joined.sum(), same.sum())


def f1_by_loop(truth, found):
    right = joined = same = 0
    for a, b in itertools.combinations(range(len(truth)), 2):
        joined += found[a] == found[b]
        same += truth[a] == truth[b]
        right += found[a] == found[b] and truth[a] == truth[b]
    return list(f1_of(right, joined, same))


def f1_by_table(truth, found):
    def pairs(counts):
        counts = np.asarray(counts)
        return (counts * (counts - 1) // 2).sum()

    table = pd.crosstab(truth, found)
    return np.array(f1_of(pairs(table), pairs(table.sum(axis=0)), pairs(table.sum(axis=1))))


def f1_with_itself(truth, found):
    same, joined = truth[:, None] == truth, found[:, None] == found
    return f1_of((same & joined).sum(), joined.sum(), same.sum())


def f1_swapped(truth, found):
    precision, recall, f1 = f1_by_triangle(truth, found)
    return recall, precision, f1


def f1_as_mean(truth, found):
    precision, recall, _ = f1_by_triangle(truth, found)
    return precision, recall, (precision + recall) / 2


def f1_alone(truth, found):
    return f1_by_triangle(truth, found)[2]


def f1_nothing_is_zero(truth, found):
    precision, recall, f1 = f1_by_triangle(truth, found)
    return (precision if len(set(found)) < len(found) else 0), recall, f1


# --- best_merge ---------------------------------------------------------------------------------


def merge_with(score, scores, groups, photos, apart=True):
    best = (0, 0, -np.inf)
    for i, j in itertools.combinations(range(len(groups)), 2):
        if apart and set(photos[groups[i]]) & set(photos[groups[j]]):
            continue
        value = score(scores[np.ix_(groups[i], groups[j])])
        if value > best[2]:
            best = (i, j, value)
    return best


def merge_by_block(scores, groups, photos):
    return merge_with(np.mean, scores, groups, photos)


def merge_by_loops(scores, groups, photos):
    found = [(-np.inf, 0, 0)]
    for j in range(len(groups)):
        for i in range(j):
            pairs = list(itertools.product(groups[i], groups[j]))
            if all(photos[a] != photos[b] for a, b in pairs):
                found.append((sum(scores[a, b] for a, b in pairs) / len(pairs), i, j))
    mean, i, j = max(found)
    return [i, j, mean]


def merge_by_matrix(scores, groups, photos):
    member = np.zeros((len(groups), len(photos)))
    for number, group in enumerate(groups):
        member[number, group] = 1
    sizes = member.sum(1)
    means = member @ scores @ member.T / np.outer(sizes, sizes)
    apart = member @ (photos[:, None] == photos) @ member.T > 0
    means[apart | np.tril(np.ones_like(apart))] = -np.inf
    i, j = np.unravel_index(means.argmax(), means.shape)
    return np.array([i, j, means[i, j]])


def merge_without_photos(scores, groups, photos):
    return merge_with(np.mean, scores, groups, photos, apart=False)


def merge_first_faces_apart(scores, groups, photos):
    firsts = [group[0] for group in groups]
    best = (0, 0, -np.inf)
    for i, j in itertools.combinations(range(len(groups)), 2):
        mean = scores[np.ix_(groups[i], groups[j])].mean()
        if photos[firsts[i]] != photos[firsts[j]] and mean > best[2]:
            best = (i, j, mean)
    return best


def merge_single(scores, groups, photos):
    return merge_with(np.max, scores, groups, photos)


def merge_complete(scores, groups, photos):
    return merge_with(np.min, scores, groups, photos)


def merge_sum(scores, groups, photos):
    return merge_with(np.sum, scores, groups, photos)


def merge_backwards(scores, groups, photos):
    i, j, mean = merge_by_block(scores, groups, photos)
    return j, i, mean


def merge_zero(scores, groups, photos):
    i, j, mean = merge_by_block(scores, groups, photos)
    return i, j, max(mean, 0)


# --- person_similarity --------------------------------------------------------------------------


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def scaled(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True)


def person_by_means(a, b):
    return cosine(scaled(a).mean(0), scaled(b).mean(0))


def person_by_sums(a, b):
    return float(cosine(scaled(a).sum(0), scaled(b).sum(0)))


def person_by_loops(a, b):
    first = sum(row / np.sqrt((row**2).sum()) for row in a) / len(a)
    second = sum(row / np.sqrt((row**2).sum()) for row in b) / len(b)
    return np.float32(cosine(first, second))


def person_not_scaled(a, b):
    return cosine(a.mean(0), b.mean(0))


def person_mean_of_pairs(a, b):
    return (scaled(a) @ scaled(b).T).mean()


def person_best_pair(a, b):
    return (scaled(a) @ scaled(b).T).max()


def person_dot(a, b):
    return scaled(a).mean(0) @ b.mean(0)


# --- average_precision --------------------------------------------------------------------------


def precision_by_places(hits):
    places = np.flatnonzero(hits) + 1
    return np.mean(np.arange(1, len(places) + 1) / places)


def precision_by_cumsum(hits):
    hits = np.asarray(hits)
    return (hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean()


def precision_by_loop(hits):
    found, precisions = 0, []
    for place, hit in enumerate(hits, start=1):
        if hit:
            found += 1
            precisions.append(found / place)
    return sum(precisions) / len(precisions)


def precision_reciprocal(hits):
    return 1 / (np.flatnonzero(hits)[0] + 1)


def precision_of_all_places(hits):
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1)).mean()


def precision_over_list(hits):
    return precision_by_places(hits) * np.sum(hits) / len(hits)


def precision_from_zero(hits):
    places = np.flatnonzero(hits)
    return np.mean(np.arange(len(places)) / np.maximum(places, 1))


# --- group_faces --------------------------------------------------------------------------------


def linked(scores, photos, threshold, same, merge=merge_by_block):
    groups = [[face] for face in range(len(photos))]
    for a, b in same:
        first, second = (next(group for group in groups if face in group) for face in (a, b))
        if first is not second:
            groups.remove(second)
            first += second
    while len(groups) > 1:
        i, j, mean = merge(scores, groups, photos)
        if i == j or mean < threshold:
            break
        groups[i] += groups.pop(j)
    return groups


def labelled(groups, faces):
    labels = np.empty(faces, int)
    for group in groups:
        labels[group] = min(group)
    return labels


def faces_by_groups(scores, photos, threshold, same):
    return labelled(linked(scores, photos, threshold, same), len(photos))


def faces_by_loops(scores, photos, threshold, same):
    return labelled(linked(scores, photos, threshold, same, merge_by_loops), len(photos)).tolist()


def faces_by_module(scores, photos, threshold, same):
    from utils.answers.album import people

    return people.link(scores, threshold, people.Limits(photos, tuple(same)))


def faces_by_single_linkage(scores, photos, threshold, same):
    return labelled(linked(scores, photos, threshold, same, merge_single), len(photos))


def faces_without_photos(scores, photos, threshold, same):
    return labelled(linked(scores, photos, threshold, same, merge_without_photos), len(photos))


def faces_without_user(scores, photos, threshold, same):
    return faces_by_groups(scores, photos, threshold, [])


def faces_above_threshold(scores, photos, threshold, same):
    return faces_by_groups(scores, photos, threshold + 1e-3, same)


def faces_mean_of_means(scores, photos, threshold, same):
    means, labels = scores.astype(float).copy(), np.arange(len(photos))
    for a, b in same:
        means[a, b] = means[b, a] = 9
    apart = photos[:, None] == photos
    while True:
        allowed = np.where(apart, -np.inf, means)
        a, b = sorted(np.unravel_index(allowed.argmax(), allowed.shape))
        if allowed[a, b] < threshold:
            return labels
        means[a] = means[:, a] = (means[a] + means[b]) / 2
        apart[a] = apart[:, a] = apart[a] | apart[b]
        apart[b] = apart[:, b] = True
        labels[labels == b] = a


def faces_numbered(scores, photos, threshold, same):
    return np.unique(faces_by_groups(scores, photos, threshold, same), return_inverse=True)[1] + 1


RIGHT = {
    "pairwise_f1": [f1_by_triangle, f1_by_loop, f1_by_table],
    "best_merge": [merge_by_block, merge_by_loops, merge_by_matrix],
    "person_similarity": [person_by_means, person_by_sums, person_by_loops],
    "average_precision": [precision_by_places, precision_by_cumsum, precision_by_loop],
    "group_faces": [faces_by_groups, faces_by_loops, faces_by_module],
}
WRONG = {
    "pairwise_f1": [
        (f1_with_itself, "no face with itself"),
        (f1_swapped, "4 pairs of two different faces have one group"),
        (f1_as_mean, "2 · precision · recall"),
        (f1_alone, "return three numbers"),
        (f1_nothing_is_zero, "nothing is joined wrongly"),
    ],
    "best_merge": [
        (merge_without_photos, "faces 0 and 2 are in one photo"),
        (merge_first_faces_apart, "not the first alone"),
        (merge_single, "the mean over all pairs"),
        (merge_complete, "the mean over all pairs"),
        (merge_sum, "not the sum"),
        (merge_backwards, "the smaller place first"),
        (merge_zero, "the mean is -np.inf"),
    ],
    "person_similarity": [
        (person_not_scaled, "scale each photo to length 1"),
        (person_mean_of_pairs, "then one cosine"),
        (person_best_pair, "then the mean over the photos"),
        (person_dot, "whatever the lengths"),
    ],
    "average_precision": [
        (precision_reciprocal, "the mean over the two hits"),
        (precision_of_all_places, "the mean over the two hits"),
        (precision_over_list, "the mean over the two hits"),
        (precision_from_zero, "1/2 down to the first"),
    ],
    "group_faces": [
        (faces_by_single_linkage, "One near face is not enough"),
        (faces_without_photos, "2 may not join them"),
        (faces_without_user, "join them first"),
        (faces_above_threshold, "exactly the threshold is joined"),
        (faces_mean_of_means, "no mean of means"),
        (faces_numbered, "the smallest number of a face"),
    ],
}
