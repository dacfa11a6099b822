-- Let members ask in a browser, each by a key of its own that nobody holds
-- depends: 0022_events_of_partner

-- migrate: apply

ALTER TABLE api_key ADD COLUMN user_id uuid REFERENCES app_user;
CREATE UNIQUE INDEX api_key_of_member ON api_key (account_id, user_id) WHERE user_id IS NOT NULL;

-- migrate: rollback

UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE user_id IS NOT NULL;
ALTER TABLE api_key DROP COLUMN user_id;
