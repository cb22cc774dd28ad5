-- A user that came from another system keeps its id there: an integer as the row's own id, anything
-- else here.
ALTER TABLE user ADD COLUMN imported_id TEXT;

-- Ids that users had who are deleted. An import does not give them to anybody else.
CREATE TABLE former_user (
    id INTEGER PRIMARY KEY
) STRICT;

-- From where a user has logged in. Networks as in domain/network.rs.
CREATE TABLE login_network (
    user_id INTEGER NOT NULL,
    network INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) STRICT, WITHOUT ROWID;

-- Who is held back. Accounts are keyed digests of usernames, so that what strangers typed is not kept.
CREATE TABLE throttle (
    account  INTEGER NOT NULL,
    network  INTEGER NOT NULL,                            -- 0: from everywhere
    failures INTEGER NOT NULL,
    at       INTEGER NOT NULL,                            -- of the last failure
    until    INTEGER NOT NULL,                            -- when the next try is taken
    PRIMARY KEY (account, network)
) STRICT, WITHOUT ROWID;

-- Append-only and hash-chained: domain/audit.rs.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    user_id  INTEGER,
    record   TEXT    NOT NULL,
    hash     BLOB    NOT NULL
) STRICT;
