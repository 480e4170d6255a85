"""Whether the injection itself shows: a forest that sees nothing of what an attack does, only what starting something does."""

import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

# Age, processes, faults, restarts: an attack and its placebo are the same program, started and stopped the same way.
SEEN = ("age_seconds", "pids_current", "page_faults", "major_page_faults", "child_minor_faults", "restarts_so_far")
# What these attacks do is one of the four: there the forest may well see it, and that is no leak.
BY_NATURE = {"crash_loop": "restarts", "fork_bomb": "processes", "memory_leak": "faults"}
LIMIT = 0.6
FOLDS = 5


def check(recordings):
    """Prints the figures; whether the range does not leak. None where there is too little to say."""
    parts = [_rows(recording) for recording in recordings]
    # One without either would teach a fold nothing, or ask it nothing.
    parts = [part for part in parts if len(set(part[1])) == 2]
    if len(parts) < 2:
        print("leak check: takes two sessions with attacks and placebos at least")
        return None
    features, attack, weight, kind, group = (numpy.concatenate([part[place] for part in parts]) for place in range(5))
    score = numpy.full(len(attack), numpy.nan)
    folds = GroupKFold(min(FOLDS, len(set(group))))
    for train, test in folds.split(features, attack, group):
        forest = RandomForestClassifier(
            n_estimators=100, max_depth=12, min_samples_leaf=5, class_weight="balanced", n_jobs=-1, random_state=0
        )
        forest.fit(features[train], attack[train], sample_weight=weight[train])
        score[test] = forest.predict_proba(features[test])[:, 1]
    print(f"leak check: a forest that sees only {', '.join(SEEN)}; attacks against placebos, sessions never on both sides")

    def auc(chosen):
        if not chosen.any() or len(set(attack[chosen])) < 2:
            return None
        return roc_auc_score(attack[chosen], score[chosen], sample_weight=weight[chosen])

    for name in sorted(set(kind)):
        of_kind = auc(kind == name)
        nature = f"   (its effect is {BY_NATURE[name]})" if name in BY_NATURE else ""
        print(f"  {name:14} AUC {'-' if of_kind is None else f'{of_kind:.3f}'}{nature}")
    print(f"  all kinds      AUC {auc(numpy.ones(len(attack), bool)):.3f}")
    rest = auc(~numpy.isin(kind, list(BY_NATURE)))
    if rest is None:
        print("  without the kinds whose effect is one of the four: too little to say")
        return None
    kept = rest <= LIMIT
    print(f"  without those whose effect is one of the four: AUC {rest:.3f}, at most {LIMIT}: {'kept' if kept else 'MISSED: the range leaks'}")
    return kept


def _rows(recording):
    """Rows of attacks and placebos: features, attack or not, weight, kind, session. Every episode weighs the same."""
    chosen = numpy.isin(recording.role, ("attack", "placebo"))
    nothing = numpy.full(len(recording.ids), numpy.nan)
    features = numpy.stack([recording.features.get(name, nothing)[chosen] for name in SEEN], axis=1)
    _, place, count = numpy.unique(recording.episode[chosen].astype(str), return_inverse=True, return_counts=True)
    weight = 1.0 / count[place] if len(place) else numpy.zeros(0)
    session = numpy.full(int(chosen.sum()), recording.name, dtype=object)
    return features, (recording.role[chosen] == "attack").astype(int), weight, recording.kind[chosen].astype(str), session
