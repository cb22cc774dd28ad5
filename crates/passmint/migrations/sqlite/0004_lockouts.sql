-- Failed logins by username and scope: from one network, one neighbourhood, or everywhere. What is
-- forgotten must be old by the wall clock and by running time.
CREATE TABLE lockout (
    account      INTEGER NOT NULL,                        -- keyed digest of the username
    scope        TEXT    NOT NULL,                        -- network, neighbourhood, everywhere
    place        INTEGER NOT NULL,                        -- as in domain/network.rs; everywhere: 0
    failures     INTEGER NOT NULL,
    at           INTEGER NOT NULL,                        -- of the last failure
    until        INTEGER NOT NULL,                        -- when the next attempt is taken
    running_time INTEGER NOT NULL,
    PRIMARY KEY (account, scope, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX lockout_at ON lockout (at);

-- What was a network of IPv4 is a neighbourhood now.
INSERT INTO lockout (account, scope, place, failures, at, until, running_time)
    SELECT account,
        CASE WHEN network = 0 THEN 'everywhere'
             WHEN network BETWEEN -4294967296 AND -1 THEN 'neighbourhood'
             ELSE 'network' END,
        network, failures, at, until,
        (SELECT value FROM meta WHERE name = 'running_time')
    FROM throttle;

DROP TABLE throttle;
