-- What receivers were told of an incident, so that a restart tells nobody twice. The empty receiver: the alert's identity.
CREATE TABLE notified (
    incident_id INTEGER NOT NULL,
    receiver TEXT NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (incident_id, receiver)
) STRICT, WITHOUT ROWID;
