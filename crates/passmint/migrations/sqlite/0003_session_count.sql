-- How many sessions of a user live, so that a login need not count up to sessions.max_per_user of
-- them. Kept by triggers: every way in which a session begins or ends is counted in its transaction.
CREATE TABLE session_count (
    user_id INTEGER PRIMARY KEY,
    live    INTEGER NOT NULL
) STRICT;

INSERT INTO session_count (user_id, live)
    SELECT user_id, count(*) FROM session WHERE ended_at IS NULL GROUP BY user_id;

CREATE TRIGGER session_begun AFTER INSERT ON session WHEN new.ended_at IS NULL BEGIN
    INSERT INTO session_count (user_id, live) VALUES (new.user_id, 1)
        ON CONFLICT (user_id) DO UPDATE SET live = live + 1;
END;

-- No refresh fires it: a refresh does not write ended_at.
CREATE TRIGGER session_ended AFTER UPDATE OF ended_at ON session
    WHEN old.ended_at IS NULL AND new.ended_at IS NOT NULL BEGIN
    UPDATE session_count SET live = live - 1 WHERE user_id = new.user_id;
END;

CREATE TRIGGER session_deleted AFTER DELETE ON session WHEN old.ended_at IS NULL BEGIN
    UPDATE session_count SET live = live - 1 WHERE user_id = old.user_id;
END;

CREATE TRIGGER user_deleted AFTER DELETE ON user BEGIN
    DELETE FROM session_count WHERE user_id = old.id;
END;
