-- API keys have names, and their accounts see when they were last used
-- depends: 0011_public_ids

-- migrate: apply

ALTER TABLE api_key
    ADD COLUMN name text CHECK (length(name) BETWEEN 1 AND 100),
    ADD COLUMN last_used_at timestamptz;

-- migrate: rollback

ALTER TABLE api_key DROP COLUMN name, DROP COLUMN last_used_at;
