-- Let each person choose about what to get emails of an account
-- depends: 0023_keys_of_members

-- migrate: apply

ALTER TABLE membership ADD COLUMN muted text[] NOT NULL DEFAULT '{}'
    CONSTRAINT membership_muted_check CHECK (muted <@ ARRAY['connections', 'domains']);

-- migrate: rollback

ALTER TABLE membership DROP COLUMN muted;
