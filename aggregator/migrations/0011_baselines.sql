-- What the detector learnt of each workload, in its own compact form; written again as it learns on.
CREATE TABLE baselines (
    cluster TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    container_name TEXT NOT NULL,
    last_unix_ms INTEGER NOT NULL,
    memory BLOB NOT NULL,
    PRIMARY KEY (cluster, namespace, owner_kind, owner_name, container_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX baselines_by_age ON baselines (cluster, last_unix_ms);
