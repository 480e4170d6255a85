-- What people do about incidents without saying what these were: acknowledged, snoozed, commented, and the ends of the first two.
-- Append-only. Words are the contract's; `severity` is its number, as the incident was told then; `until_unix_ms` is 0 but for a snooze.
CREATE TABLE handlings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident_id INTEGER NOT NULL,
    handling TEXT NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    unix_ms INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL,
    severity INTEGER NOT NULL
) STRICT;
CREATE INDEX handlings_incident ON handlings (incident_id);

-- What follows from them, beside the answer: what every list of incidents shows. A snooze ends where the severity exceeds the one it began with.
ALTER TABLE incidents ADD COLUMN acknowledged_by TEXT NOT NULL DEFAULT '';
ALTER TABLE incidents ADD COLUMN acknowledged_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN snoozed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE incidents ADD COLUMN snoozed_until_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN snoozed_severity INTEGER NOT NULL DEFAULT 0;
