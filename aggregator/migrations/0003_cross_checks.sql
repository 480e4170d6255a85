-- What comparing with Prometheus came to, whenever that changed.
CREATE TABLE cross_checks (
    id INTEGER PRIMARY KEY,
    unix_ms INTEGER NOT NULL,
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    container_name TEXT NOT NULL,
    pod_name TEXT NOT NULL,
    container_id TEXT NOT NULL,
    metric INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    ours REAL,
    theirs REAL,
    seconds REAL,
    late_ms INTEGER
) STRICT;
