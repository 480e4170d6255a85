-- Nodes of the aggregator's own cluster as last heard: one that dies while no aggregator runs is still missed.
CREATE TABLE nodes (
    cluster TEXT NOT NULL,
    name TEXT NOT NULL,
    last_heard_unix_ms INTEGER NOT NULL,
    left INTEGER NOT NULL,
    agent_version TEXT NOT NULL,
    PRIMARY KEY (cluster, name)
) STRICT;
