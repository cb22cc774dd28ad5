-- Times are microseconds since 1970. Running time is microseconds that servers on this database
-- have run: no clock step moves it.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('running_time', 0);

CREATE TABLE user (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,   -- AUTOINCREMENT: never reused
    username         TEXT    NOT NULL UNIQUE,             -- canonical
    username_folded  TEXT    NOT NULL UNIQUE,             -- names that differ only in case collide
    password_hash    TEXT    NOT NULL,
    password_version INTEGER NOT NULL DEFAULT 0,
    epoch            INTEGER NOT NULL DEFAULT 0,
    email            TEXT    NOT NULL DEFAULT '',
    first_name       TEXT    NOT NULL DEFAULT '',
    last_name        TEXT    NOT NULL DEFAULT '',
    roles            TEXT    NOT NULL DEFAULT '[]',       -- JSON list of texts
    claims           TEXT    NOT NULL DEFAULT '{}',       -- JSON object
    disabled_at      INTEGER,
    created_at       INTEGER NOT NULL
) STRICT;

-- One row per login. No foreign key to user: an ended session outlives a deleted user, to tell why.
CREATE TABLE session (
    id                 BLOB    NOT NULL PRIMARY KEY,      -- UUID version 7: new rows at the end
    user_id            INTEGER NOT NULL,
    secret_hash        BLOB    NOT NULL,
    generation         INTEGER NOT NULL,
    anchor_generation  INTEGER NOT NULL,
    anchor_at          INTEGER NOT NULL,
    created_at         INTEGER NOT NULL,
    rotated_at         INTEGER NOT NULL,
    refresh_expires_at INTEGER NOT NULL,
    refresh_key        INTEGER NOT NULL,
    address            TEXT,
    user_agent         TEXT    NOT NULL,
    foreign_replay_at  INTEGER,
    ended_at           INTEGER,
    end_reason         TEXT,
    ended_running_time INTEGER
) STRICT, WITHOUT ROWID;

-- No refresh touches it: neither column changes while a session lives.
CREATE INDEX session_live ON session (user_id, id) WHERE ended_at IS NULL;

CREATE TABLE revocation (
    sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT    NOT NULL,                        -- session, user, generation
    user_id      INTEGER,
    epoch        INTEGER,
    session_id   BLOB,                                    -- of kind user: the session that is kept
    generation   INTEGER,
    effective_at INTEGER,
    at           INTEGER NOT NULL,
    running_time INTEGER NOT NULL
) STRICT;

CREATE TABLE key (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,         -- stands in refresh tokens: never reused
    kid        TEXT    NOT NULL UNIQUE,
    use        TEXT    NOT NULL,                          -- an algorithm, or refresh
    state      TEXT    NOT NULL,                          -- published, signing, verifying
    state_at   INTEGER,
    created_at INTEGER NOT NULL,
    public     BLOB    NOT NULL,
    sealed     BLOB    NOT NULL,
    imported   INTEGER NOT NULL DEFAULT 0
) STRICT;
