-- Endings from before `user.ended_at` was kept: a foreign token issued before them stays ended.
UPDATE user SET ended_at = max(
    ended_at,
    coalesce(disabled_at, 0),
    coalesce((SELECT max(at) FROM revocation WHERE kind = 'user' AND user_id = user.id), 0)
);
