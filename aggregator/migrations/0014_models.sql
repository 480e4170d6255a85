-- Kind classifiers that people brought; the shipped one is in the program. Instants are Unix milliseconds.
CREATE TABLE models (
    id TEXT PRIMARY KEY,
    file BLOB NOT NULL,
    public_key BLOB NOT NULL,
    added_by TEXT NOT NULL,
    added_unix_ms INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;

-- What was done with models; the newest row that says what serves is what serves.
CREATE TABLE model_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    model TEXT NOT NULL,
    before TEXT NOT NULL,
    forced INTEGER NOT NULL,
    reason TEXT NOT NULL,
    comparison BLOB NOT NULL
) STRICT;
