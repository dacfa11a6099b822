-- A clock that was set back ends no name and no suspension before it began
-- depends: 0020_answer_certificates

-- migrate: apply

CREATE OR REPLACE FUNCTION keep_account_periods() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    IF TG_OP = 'INSERT' OR NEW.name <> OLD.name THEN
        UPDATE account_name SET ended_at = greatest(at, started_at)
        WHERE account_id = NEW.id AND ended_at IS NULL
        RETURNING ended_at INTO at;
        INSERT INTO account_name (account_id, name, started_at) VALUES (
            NEW.id, NEW.name, CASE WHEN TG_OP = 'INSERT' THEN NEW.created_at ELSE at END
        );
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.suspended_at IS NOT NULL AND NEW.suspended_at IS NULL THEN
        UPDATE account_suspension SET ended_at = greatest(clock_timestamp(), started_at)
        WHERE account_id = NEW.id AND ended_at IS NULL;
    END IF;
    IF NEW.suspended_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.suspended_at IS NULL) THEN
        INSERT INTO account_suspension (account_id, started_at) VALUES (NEW.id, NEW.suspended_at);
    END IF;
    RETURN NULL;
END
$$;

-- migrate: rollback

CREATE OR REPLACE FUNCTION keep_account_periods() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    IF TG_OP = 'INSERT' OR NEW.name <> OLD.name THEN
        UPDATE account_name SET ended_at = at WHERE account_id = NEW.id AND ended_at IS NULL;
        INSERT INTO account_name (account_id, name, started_at) VALUES (
            NEW.id, NEW.name, CASE WHEN TG_OP = 'INSERT' THEN NEW.created_at ELSE at END
        );
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.suspended_at IS NOT NULL AND NEW.suspended_at IS NULL THEN
        UPDATE account_suspension SET ended_at = at WHERE account_id = NEW.id AND ended_at IS NULL;
    END IF;
    IF NEW.suspended_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.suspended_at IS NULL) THEN
        INSERT INTO account_suspension (account_id, started_at) VALUES (NEW.id, NEW.suspended_at);
    END IF;
    RETURN NULL;
END
$$;
