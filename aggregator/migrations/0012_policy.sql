-- What policy decided, whether an installation pages, exceptions, and quiet windows that people judge.

-- One row per incident of the own cluster that asked for more than a note. Severities and reasons are the contract's numbers.
CREATE TABLE decisions (
    incident_id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    rota TEXT NOT NULL,
    rank REAL NOT NULL,
    unix_ms INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    given INTEGER NOT NULL,
    withheld INTEGER NOT NULL,
    withheld_by TEXT NOT NULL,
    asked_page_ms INTEGER,
    ticketed_ms INTEGER,
    paged_ms INTEGER,
    would_page_ms INTEGER
) STRICT;
CREATE INDEX decisions_time ON decisions (unix_ms);

-- One row. `pages` is NULL until somebody says whether to page.
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    installed_unix_ms INTEGER NOT NULL,
    pages INTEGER,
    changed_by TEXT NOT NULL DEFAULT '',
    changed_unix_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

-- How long at least one node was heard on each day since 1970 (UTC): what rates rest on.
CREATE TABLE watched_days (
    day INTEGER PRIMARY KEY,
    watched_ms INTEGER NOT NULL
) STRICT;

-- `message` is the contract's Exception; `answered` the Incident as it was when it was answered.
CREATE TABLE exceptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    answer_id INTEGER,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    removed_unix_ms INTEGER NOT NULL DEFAULT 0,
    message BLOB NOT NULL,
    answered BLOB
) STRICT;
CREATE UNIQUE INDEX exceptions_name ON exceptions (name) WHERE removed_unix_ms = 0;
CREATE UNIQUE INDEX exceptions_answer ON exceptions (answer_id) WHERE answer_id IS NOT NULL;

-- An answer is taken back by marking it; it stays.
ALTER TABLE answers ADD COLUMN undone_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE answers ADD COLUMN undone_by TEXT NOT NULL DEFAULT '';

-- `message` is the contract's QuietWindow without its series.
CREATE TABLE quiet_windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    drawn_unix_ms INTEGER NOT NULL,
    message BLOB NOT NULL,
    answer TEXT NOT NULL DEFAULT '',
    author TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    judged_unix_ms INTEGER NOT NULL DEFAULT 0,
    label_id INTEGER NOT NULL DEFAULT 0
) STRICT;
