"""Ensembles of trees: every test, aggregate, post-transform and number of base values, thresholds that are met exactly or missed by the last bit."""

import numpy as np

from cases import DOUBLE, DTYPES, EXACT, FLOAT, INF, INT32, INT64, NAN, SPECIAL, STRING, TOLERANCE, near_ties, tensor

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
POST = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT", None]
KINDS = [FLOAT, FLOAT, DOUBLE, INT64, INT32]


def generate(cases, seed):
    for rep in range(200):
        regressor(cases, np.random.default_rng([seed, 1, rep]), rep)
    for rep in range(400):
        classifier(cases, np.random.default_rng([seed, 2, rep]), rep)
    for rep in range(200):
        ensemble(cases, np.random.default_rng([seed, 3, rep]), rep)
    missing_votes(cases)


def threshold(random, dtype):
    if random.random() < 0.05:
        return dtype(random.choice([INF, -INF, NAN, 0.0, -0.0, 1e30]))
    value = random.normal()
    return dtype(np.round(value * 2) / 2 if random.random() < 0.6 else value)


def grow(random, count, columns, modes, dtype, depth=3):
    """Nodes of `count` trees in the lists of opset 3, and their leaves as (tree, node)."""
    lists = {key: [] for key in ("tree", "node", "column", "value", "mode", "true", "false", "missing")}
    leaves = []
    for tree in range(count):
        nodes = []

        def build(left):
            me = len(nodes)
            nodes.append(None)
            if left == 0 or (left < depth and random.random() < 0.2):
                nodes[me] = (0, dtype(0), "LEAF", 0, 0, 0)
                leaves.append((tree, me))
                return me
            value = threshold(random, dtype)
            first, second = build(left - 1), build(left - 1)
            nodes[me] = (int(random.integers(columns)), value, str(random.choice(modes)), first, second, int(random.random() < 0.5))
            return me

        build(depth if random.random() < 0.9 else 0)
        for number, (column, value, mode, first, second, missing) in enumerate(nodes):
            row = (tree, number, column, value, mode, first, second, missing)
            for part, entry in zip(lists.values(), row):
                part.append(entry)
    return lists, leaves


def inputs(random, thresholds, columns, kind, dtype, rows):
    """Rows that meet thresholds exactly, or miss them by one in the last place."""
    near = [y for v in thresholds for y in (v, np.nextafter(v, dtype(INF)), np.nextafter(v, dtype(-INF)))]
    with np.errstate(all="ignore"):
        pool = np.concatenate([np.array(near, dtype), SPECIAL.astype(dtype), random.normal(size=20).astype(dtype)])
        x = random.choice(pool, size=(rows, columns))
        if kind in (INT64, INT32):
            x = np.clip(np.nan_to_num(x, nan=0), -5, 5)
        return x.astype(DTYPES[kind])


def weight(random, positive):
    value = np.round(random.normal() * 4) / 4 if random.random() < 0.5 else random.normal() * 0.3
    return abs(value) * 0.4 if positive else value


def written(lists, votes, prefix, as_tensor, missing, dtype):
    """The attributes of opset 1 and 3."""
    attributes = {
        "nodes_treeids": lists["tree"], "nodes_nodeids": lists["node"], "nodes_featureids": lists["column"],
        "nodes_modes": lists["mode"], "nodes_truenodeids": lists["true"], "nodes_falsenodeids": lists["false"],
        "nodes_missing_value_tracks_true": lists["missing"] if missing else None,
        f"{prefix}_treeids": [vote[0] for vote in votes], f"{prefix}_nodeids": [vote[1] for vote in votes],
        f"{prefix}_ids": [vote[2] for vote in votes],
    }
    numbers = {"nodes_values": lists["value"], f"{prefix}_weights": [vote[3] for vote in votes], "nodes_hitrates": [1.0] * len(lists["value"])}
    for key, values in numbers.items():
        values = np.array(values, dtype)
        attributes.update({f"{key}_as_tensor": tensor(values)} if as_tensor else {key: values.astype(np.float32).tolist()})
    return attributes


def based(random, attributes, count, as_tensor, dtype):
    if count:
        base = np.round(random.normal(size=count), 3).astype(dtype)
        attributes.update({"base_values_as_tensor": tensor(base)} if as_tensor else {"base_values": base.astype(np.float32).tolist()})


def feeds(random, thresholds, columns, kind, dtype):
    return [[inputs(random, thresholds, columns, kind, dtype, rows)] for rows in (24, 1, 3, 100)]


def regressor(cases, random, rep):
    kind = KINDS[rep % 5]
    dtype = np.float64 if kind == DOUBLE else np.float32
    as_tensor = rep % 3 == 0
    columns = int(random.integers(1, 5))
    modes = MODES if rep % 4 == 0 else [MODES[rep % 6]]
    lists, leaves = grow(random, int(random.choice([1, 2, 5, 20, 90])), columns, modes, dtype if as_tensor else np.float32)
    targets = int(random.choice([1, 1, 2, 3]))
    full = random.random() < 0.5
    votes = []
    for tree, node in leaves:
        ids = range(targets) if full or targets == 1 else random.permutation(targets)[: int(random.integers(1, targets + 1))]
        votes += [(tree, node, int(target), dtype(weight(random, False))) for target in ids]
    attributes = written(lists, votes, "target", as_tensor, random.random() < 0.6, dtype)
    attributes |= {
        "n_targets": targets, "aggregate_function": str(random.choice(["SUM", "AVERAGE", "MIN", "MAX"])),
        "post_transform": POST[int(random.integers(6))] if random.random() < 0.5 else None,
    }
    if random.random() < 0.4:
        based(random, attributes, targets, as_tensor, dtype)
    cases.add(
        "TreeEnsembleRegressor", attributes, feeds(random, lists["value"], columns, kind, dtype), [FLOAT],
        opset=3 if as_tensor or rep % 2 else 1, both=True, tag=f"_{targets}_{attributes['aggregate_function']}_{attributes['post_transform']}",
    )


def classifier(cases, random, rep):
    kind = KINDS[rep % 5]
    dtype = np.float64 if kind == DOUBLE else np.float32
    as_tensor = rep % 3 == 0
    columns = int(random.integers(1, 5))
    modes = MODES if rep % 4 == 0 else [MODES[rep % 6]]
    lists, leaves = grow(random, int(random.choice([1, 2, 5, 20])), columns, modes, dtype if as_tensor else np.float32)
    classes = int(random.choice([2, 2, 2, 3, 4]))
    positive = random.random() < 0.5
    style = str(random.choice(["full", "first", "second", "mixed"] if classes == 2 else ["full", "mixed", "one"]))
    votes = []
    for tree, node in leaves:
        some = random.random() < 0.95
        ids = {
            "full": range(classes), "first": [0] if some else [], "second": [1] if some else [], "one": [tree % classes],
            "mixed": random.permutation(classes)[: int(random.integers(1, classes + 1))],
        }[style]
        votes += [(tree, node, int(target), dtype(weight(random, positive))) for target in ids]
    if not votes:
        return
    attributes = written(lists, votes, "class", as_tensor, random.random() < 0.6, dtype)
    labels = [
        {"classlabels_int64s": list(range(classes))}, {"classlabels_int64s": [5, 7, -3, 2][:classes]},
        {"classlabels_strings": ["b", "a", "ü", ""][:classes]},
    ][rep % 3]
    attributes |= {"post_transform": POST[int(random.integers(6))], **labels}
    # For one base value of two classes with votes for either, onnxruntime leaves scores unwritten.
    two = [0, 0, 1, 2] if style in ("full", "first") else [0, 2]
    count = int(random.choice(two if classes == 2 else [0, classes]))
    based(random, attributes, count, as_tensor, dtype)
    instead = None
    if classes == 2 and rep % 3 == 1 and len({vote[2] for vote in votes}) == 2:
        # onnxruntime gives 1 and 0 where both classes have votes, instead of the labels that the specification asks for.
        def instead(_, answers):
            return [np.where(answers[0] == 1, 7, 5).astype(np.int64), answers[1]]
    cases.add(
        "TreeEnsembleClassifier", attributes, feeds(random, lists["value"], columns, kind, dtype),
        [STRING if "classlabels_strings" in labels else INT64, FLOAT], opset=3 if as_tensor or rep % 2 else 1, both=True, instead=instead,
        ties=lambda _, answers: near_ties(answers[1]), tag=f"_{classes}_{style}_b{count}_{attributes['post_transform']}",
    )


def ensemble(cases, random, rep):
    """Opset 5: sets of members, leaves of their own, double precision to the last digits."""
    kind = [FLOAT, DOUBLE][rep % 2]
    dtype = DTYPES[kind]
    columns, targets = int(random.integers(1, 5)), int(random.choice([1, 1, 2, 3]))
    modes = [[6], [0, 1, 2, 3, 4, 5, 6], [4, 6], [rep % 6], [0]][rep % 5]
    nodes, leaf_targets, leaf_weights, roots = [], [], [], []

    def leaf():
        leaf_targets.append(int(random.integers(targets)))
        leaf_weights.append(dtype(weight(random, False)))
        return 1, len(leaf_targets) - 1

    def build(left):
        me = len(nodes)
        nodes.append(None)
        branches = [leaf() if left <= 1 or random.random() < 0.2 else (0, build(left - 1)) for _ in range(2)]
        mode = int(random.choice(modes))
        members = [dtype(member) for member in random.integers(1, 31, size=int(random.integers(1, 6)))] if mode == 6 else []
        value = dtype(random.normal()) if random.random() < 0.4 else dtype(np.round(random.normal() * 2) / 2)
        nodes[me] = (mode, value, int(random.integers(columns)), branches, int(random.random() < 0.5), members)
        return me

    for _ in range(int(random.choice([1, 2, 6, 30]))):
        roots.append(build(3))
    if rep % 7 == 0:
        # A tree that is a leaf: a node whose branches are the same leaf.
        nodes.append((0, dtype(0), 0, [leaf()] * 2, 0, []))
        leaf_targets[-1] = 0
        roots.append(len(nodes) - 1)
    members = [member for node in nodes if node[0] == 6 for member in [*node[5], dtype(NAN)]]
    transform = int(random.integers(5)) if random.random() < 0.4 else None
    attributes = {
        "tree_roots": roots, "nodes_featureids": [node[2] for node in nodes], "nodes_modes": tensor(np.array([node[0] for node in nodes], np.uint8)),
        "nodes_splits": tensor(np.array([node[1] for node in nodes], dtype)),
        "nodes_truenodeids": [node[3][0][1] for node in nodes], "nodes_trueleafs": [node[3][0][0] for node in nodes],
        "nodes_falsenodeids": [node[3][1][1] for node in nodes], "nodes_falseleafs": [node[3][1][0] for node in nodes],
        "leaf_targetids": leaf_targets, "leaf_weights": tensor(np.array(leaf_weights, dtype)), "n_targets": targets,
        "aggregate_function": int(random.integers(4)) if random.random() < 0.8 else None, "post_transform": transform,
        "membership_values": tensor(np.array(members, dtype)) if members else None,
        "nodes_missing_value_tracks_true": [node[4] for node in nodes] if random.random() < 0.5 else None,
        "nodes_hitrates": tensor(np.ones(len(nodes), dtype)) if kind == FLOAT and random.random() < 0.3 else None,
    }
    values = [node[1] for node in nodes] + [member for member in members if member == member]
    requests = feeds(random, values, columns, kind, dtype)
    requests.append([random.integers(-2, 32, size=(20, columns)).astype(dtype)])
    cases.add(
        "TreeEnsemble", attributes, requests, [kind], opset=5, both=rep % 2 == 0, tolerance=EXACT if kind == DOUBLE and not transform else TOLERANCE,
        tag=f"_{targets}_a{attributes['aggregate_function']}_p{transform}",
    )


def missing_votes(cases):
    """NaN among the votes: as the first one it stays the least and the greatest, later it is passed over."""
    for aggregate in ("MIN", "MAX", "SUM", "AVERAGE"):
        for dtype in (np.float32, np.float64):
            for targets in (1, 2):
                for votes in ([NAN, 1.0], [1.0, NAN], [NAN, 1.0, -1.0], [1.0, NAN, -1.0], [NAN, NAN], [2.0, NAN, 3.0]):
                    lists, leaves = {key: [] for key in ("tree", "node", "column", "value", "mode", "true", "false", "missing")}, []
                    for tree in range(len(votes)):
                        for row in ((tree, 0, 0, 0.0, "BRANCH_LEQ", 1, 2, 0), (tree, 1, 0, 0.0, "LEAF", 0, 0, 0), (tree, 2, 0, 0.0, "LEAF", 0, 0, 0)):
                            for part, entry in zip(lists.values(), row):
                                part.append(entry)
                        leaves += [(tree, node, target, votes[tree]) for node in (1, 2) for target in range(targets)]
                    attributes = written(lists, leaves, "target", dtype == np.float64, False, dtype)
                    attributes |= {"n_targets": targets, "aggregate_function": aggregate}
                    rows = [[np.zeros((count, 1), dtype)] for count in (1, 40)]
                    cases.add("TreeEnsembleRegressor", attributes, rows, [FLOAT], both=True, tag=f"_nan_{aggregate}")
