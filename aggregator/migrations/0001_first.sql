-- Labels, answers, incidents and the audit log. Instants are Unix milliseconds; words are those of the contract.

-- Append-only: a retraction is another row that names the one it takes back, never a change of it.
CREATE TABLE labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    container_name TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    container_id TEXT NOT NULL,
    start_unix_ms INTEGER NOT NULL,
    end_unix_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    affected INTEGER NOT NULL,
    source TEXT NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    retracts INTEGER REFERENCES labels (id)
) STRICT;
CREATE UNIQUE INDEX labels_retracts ON labels (retracts) WHERE retracts IS NOT NULL;
CREATE INDEX labels_range ON labels (cluster, start_unix_ms, end_unix_ms) WHERE retracts IS NULL;

-- `message` is the contract's Incident; the columns beside it are what questions filter by.
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    container_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity INTEGER NOT NULL,
    onset_unix_ms INTEGER NOT NULL,
    opened_unix_ms INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    resolved_unix_ms INTEGER NOT NULL,
    answer TEXT NOT NULL DEFAULT '',
    reasoning TEXT NOT NULL,
    message BLOB NOT NULL
) STRICT;
CREATE INDEX incidents_open ON incidents (id) WHERE resolved_unix_ms = 0;
CREATE INDEX incidents_onset ON incidents (onset_unix_ms);

CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident_id INTEGER NOT NULL,
    answer TEXT NOT NULL,
    kind TEXT NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    unix_ms INTEGER NOT NULL,
    label_id INTEGER NOT NULL
) STRICT;
CREATE INDEX answers_incident ON answers (incident_id);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
