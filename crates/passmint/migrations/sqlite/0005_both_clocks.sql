-- What cannot be undone waits for two clocks: the wall clock and running time. Rows that are deleted or
-- ended by age carry both.
ALTER TABLE session ADD COLUMN created_running_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN rotated_running_time INTEGER NOT NULL DEFAULT 0;
-- The user's epoch in the tokens of the session; NULL: from before this column.
ALTER TABLE session ADD COLUMN epoch INTEGER;
-- When a repetition of a replaced refresh token was last noted: once a minute.
ALTER TABLE session ADD COLUMN replay_noted_at INTEGER;

UPDATE session SET
    created_running_time = (SELECT value FROM meta WHERE name = 'running_time'),
    rotated_running_time = (SELECT value FROM meta WHERE name = 'running_time')
    WHERE ended_at IS NULL;

ALTER TABLE audit ADD COLUMN running_time INTEGER NOT NULL DEFAULT 0;

-- When a key that only verifies may be dropped, by running time; NULL: when the wall clock says so.
ALTER TABLE key ADD COLUMN until_running_time INTEGER;

-- Refresh keys that were revoked. Their sessions are ended in steps, which go on after a crash.
CREATE TABLE revoked_key (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT;

-- Which sessions have tokens of the user's present epoch: NULL none, an id that one alone, X'00' several.
-- Ending "all others" writes nothing where there are none.
ALTER TABLE user ADD COLUMN epoch_session BLOB DEFAULT X'00';
-- When all of the user's sessions were last ended.
ALTER TABLE user ADD COLUMN ended_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX revocation_kind ON revocation (kind, sequence);
CREATE INDEX revocation_user ON revocation (user_id, sequence) WHERE kind = 'user';
CREATE INDEX revocation_session ON revocation (session_id) WHERE kind <> 'user';
