"""Trains scikit-learn's random forest on an export in the seed's layout, as the original did.

forest.py FILE: prints one JSON object about the rows and the forest. tests/tests/forest.rs says what it must print.
"""

import csv
import json
import sys

import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score

FEATURES = ("restarts", "cpu", "memory", "net_tx", "net_rx")


def main():
    """Reads, trains, prints."""
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    features = numpy.array([[float(row[name]) for name in FEATURES] for row in rows])
    labels = numpy.array([row["label"] for row in rows])
    forest = RandomForestClassifier(n_estimators=100, random_state=0)
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    scores = cross_val_score(forest, features, labels, cv=folds)
    forest.fit(features, labels)
    anomalies = int((labels == "anomaly").sum())
    json.dump(
        {
            "columns": reader.fieldnames,
            "rows": len(rows),
            "anomalies": anomalies,
            "classes": sorted(forest.classes_),
            "accuracy_on_its_own_rows": forest.score(features, labels),
            "accuracy_cross_validated": scores.mean(),
            "accuracy_of_always": max(anomalies, len(rows) - anomalies) / len(rows),
            "importances": dict(zip(FEATURES, forest.feature_importances_)),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
