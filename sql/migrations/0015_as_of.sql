-- The decision as of any past instant: names and suspensions are periods, too
-- depends: 0014_people

-- migrate: apply

-- What an account was called, and when it was suspended. The live ones are those of the account's row.
CREATE TABLE account_name (
    account_id uuid NOT NULL REFERENCES account,
    name text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at)
);

CREATE UNIQUE INDEX account_name_live ON account_name (account_id) WHERE ended_at IS NULL;
CREATE INDEX account_name_period ON account_name (account_id, started_at);

CREATE TABLE account_suspension (
    account_id uuid NOT NULL REFERENCES account,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at)
);

CREATE UNIQUE INDEX account_suspension_live ON account_suspension (account_id)
WHERE ended_at IS NULL;
CREATE INDEX account_suspension_period ON account_suspension (account_id, started_at);

-- The events have told of every change so far.
INSERT INTO account_name
SELECT account.id, named.name, named.at, lead(named.at) OVER (PARTITION BY account.id ORDER BY named.at)
FROM account
CROSS JOIN LATERAL (
    SELECT account.created_at AS at, coalesce((
        SELECT event.detail ->> 'formerly' FROM event
        WHERE event.account_id = account.id AND event.action = 'account.renamed'
        ORDER BY event.at, event.id LIMIT 1
    ), account.name) AS name
    UNION ALL
    SELECT event.at, event.detail ->> 'name' FROM event
    WHERE event.account_id = account.id AND event.action = 'account.renamed'
) AS named;

INSERT INTO account_suspension
SELECT event.account_id, event.at, (
    SELECT min(later.at) FROM event AS later
    WHERE later.account_id = event.account_id AND later.action = 'account.reinstated'
      AND later.id > event.id
)
FROM event
WHERE event.action = 'account.suspended';

-- Each change ends a period and starts the next, whoever makes it.
CREATE FUNCTION keep_account_periods() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE TRIGGER account_periods AFTER INSERT OR UPDATE OF name, suspended_at ON account
    FOR EACH ROW EXECUTE FUNCTION keep_account_periods();

CREATE INDEX ownership_period ON ownership (domain, started_at);
CREATE INDEX visibility_grant_period ON visibility_grant (owner_id, viewer_id, started_at);

-- The definitions of who owns what, who is called what, and who shows its name to whom: now if `at` is
-- NULL, else at that instant. The planner inlines them; for now, it sees only the live rows' indexes.

CREATE FUNCTION is_live(started_at timestamptz, ended_at timestamptz, at timestamptz)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN at IS NULL THEN ended_at IS NULL
        ELSE started_at <= at AND (ended_at > at) IS NOT FALSE
    END
$$;

CREATE FUNCTION accounts_at(at timestamptz) RETURNS TABLE (id uuid, name text)
LANGUAGE sql STABLE AS $$
    SELECT account.id, CASE
        WHEN accounts_at.at IS NULL THEN account.name
        ELSE (
            SELECT called.name FROM account_name AS called
            WHERE called.account_id = account.id
              AND is_live(called.started_at, called.ended_at, accounts_at.at)
        )
    END
    FROM account
    WHERE CASE
        WHEN accounts_at.at IS NULL THEN account.suspended_at IS NULL
        ELSE account.created_at <= accounts_at.at AND NOT EXISTS (
            SELECT FROM account_suspension AS suspended
            WHERE suspended.account_id = account.id
              AND is_live(suspended.started_at, suspended.ended_at, accounts_at.at)
        )
    END
$$;

CREATE FUNCTION ownerships_at(at timestamptz) RETURNS TABLE (
    domain text, covers_subdomains boolean, verified_at timestamptz, owner_id uuid, owner_name text
)
LANGUAGE sql STABLE AS $$
    SELECT owned.domain, owned.covers_subdomains, owned.verified_at, owner.id, owner.name
    FROM ownership AS owned
    JOIN accounts_at(ownerships_at.at) AS owner ON owner.id = owned.account_id
    WHERE is_live(owned.started_at, owned.ended_at, ownerships_at.at)
$$;

CREATE FUNCTION grants_at(at timestamptz) RETURNS TABLE (
    owner_id uuid, viewer_id uuid, started_at timestamptz
)
LANGUAGE sql STABLE AS $$
    SELECT given.owner_id, given.viewer_id, given.started_at
    FROM visibility_grant AS given
    JOIN connection
        ON connection.id = given.connection_id
        AND is_live(connection.started_at, connection.ended_at, grants_at.at)
    WHERE is_live(given.started_at, given.ended_at, grants_at.at)
$$;

CREATE OR REPLACE VIEW live_ownership AS SELECT * FROM ownerships_at(NULL);
CREATE OR REPLACE VIEW live_grant AS SELECT * FROM grants_at(NULL);

DROP FUNCTION confirmed_owner;
DROP FUNCTION owner_of_host;

CREATE FUNCTION owner_of_host(host text, covering_names text[], at timestamptz DEFAULT NULL)
RETURNS TABLE (owner_id uuid, owner_name text, domain text, verified_at timestamptz)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT owned.owner_id, owned.owner_name, owned.domain, owned.verified_at
    FROM ownerships_at(owner_of_host.at) AS owned
    WHERE owned.domain = ANY (owner_of_host.covering_names)
      AND (owned.covers_subdomains OR owned.domain = owner_of_host.host)
    ORDER BY length(owned.domain) DESC
    LIMIT 1
$$;

-- THE decision, as in 0006_decision.sql, now or as of an instant.
CREATE FUNCTION confirmed_owner(
    viewer_id uuid,
    host text,
    covering_names text[],
    certificate_account_id uuid,
    at timestamptz DEFAULT NULL
)
RETURNS TABLE (
    status text, owner_id uuid, owner_name text, covered_by text, verified_at timestamptz
)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT
        decided.status,
        CASE WHEN decided.status = 'named' THEN owner.id END,
        CASE WHEN decided.status = 'named' THEN owner.name END,
        CASE WHEN decided.status = 'named' THEN covering.domain END,
        CASE WHEN decided.status = 'named' THEN covering.verified_at END
    FROM (VALUES (confirmed_owner.host IS NOT NULL)) AS certificate (has_host)
    LEFT JOIN owner_of_host(
        confirmed_owner.host, confirmed_owner.covering_names, confirmed_owner.at
    ) AS covering
        ON certificate.has_host
    LEFT JOIN accounts_at(confirmed_owner.at) AS owner
        ON owner.id = CASE
            WHEN certificate.has_host THEN covering.owner_id
            ELSE confirmed_owner.certificate_account_id
        END
    LEFT JOIN grants_at(confirmed_owner.at) AS shown
        ON shown.owner_id = owner.id AND shown.viewer_id = confirmed_owner.viewer_id
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN owner.id = confirmed_owner.viewer_id OR shown.owner_id IS NOT NULL THEN 'named'
            WHEN owner.id IS NOT NULL THEN 'verified'
            WHEN certificate.has_host THEN 'none'
            ELSE 'not_applicable'
        END
    ) AS decided (status)
$$;

-- What a site alone was asked about has no certificate, and as of when an answer is.
ALTER TABLE answer
    ALTER COLUMN cert_id DROP NOT NULL,
    ADD COLUMN as_of timestamptz;

-- migrate: rollback

DELETE FROM answer WHERE cert_id IS NULL;
ALTER TABLE answer ALTER COLUMN cert_id SET NOT NULL, DROP COLUMN as_of;

DROP FUNCTION confirmed_owner;
DROP FUNCTION owner_of_host;

CREATE OR REPLACE VIEW live_ownership AS
SELECT
    ownership.domain,
    ownership.covers_subdomains,
    ownership.verified_at,
    account.id AS owner_id,
    account.name AS owner_name
FROM ownership
JOIN account ON account.id = ownership.account_id AND account.suspended_at IS NULL
WHERE ownership.ended_at IS NULL;

CREATE OR REPLACE VIEW live_grant AS
SELECT visibility_grant.owner_id, visibility_grant.viewer_id, visibility_grant.started_at
FROM visibility_grant
JOIN connection ON connection.id = visibility_grant.connection_id AND connection.ended_at IS NULL
WHERE visibility_grant.ended_at IS NULL;

CREATE FUNCTION owner_of_host(host text, covering_names text[])
RETURNS TABLE (owner_id uuid, owner_name text, domain text, verified_at timestamptz)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT owned.owner_id, owned.owner_name, owned.domain, owned.verified_at
    FROM live_ownership AS owned
    WHERE owned.domain = ANY (owner_of_host.covering_names)
      AND (owned.covers_subdomains OR owned.domain = owner_of_host.host)
    ORDER BY length(owned.domain) DESC
    LIMIT 1
$$;

CREATE FUNCTION confirmed_owner(
    viewer_id uuid, host text, covering_names text[], certificate_account_id uuid
)
RETURNS TABLE (
    status text, owner_id uuid, owner_name text, covered_by text, verified_at timestamptz
)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT
        decided.status,
        CASE WHEN decided.status = 'named' THEN owner.id END,
        CASE WHEN decided.status = 'named' THEN owner.name END,
        CASE WHEN decided.status = 'named' THEN covering.domain END,
        CASE WHEN decided.status = 'named' THEN covering.verified_at END
    FROM (VALUES (confirmed_owner.host IS NOT NULL)) AS certificate (has_host)
    LEFT JOIN owner_of_host(confirmed_owner.host, confirmed_owner.covering_names) AS covering
        ON certificate.has_host
    LEFT JOIN account AS owner
        ON owner.suspended_at IS NULL
        AND owner.id = CASE
            WHEN certificate.has_host THEN covering.owner_id
            ELSE confirmed_owner.certificate_account_id
        END
    LEFT JOIN live_grant AS shown
        ON shown.owner_id = owner.id AND shown.viewer_id = confirmed_owner.viewer_id
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN owner.id = confirmed_owner.viewer_id OR shown.owner_id IS NOT NULL THEN 'named'
            WHEN owner.id IS NOT NULL THEN 'verified'
            WHEN certificate.has_host THEN 'none'
            ELSE 'not_applicable'
        END
    ) AS decided (status)
$$;

DROP FUNCTION grants_at, ownerships_at, accounts_at, is_live;
DROP INDEX ownership_period, visibility_grant_period;
DROP TRIGGER account_periods ON account;
DROP FUNCTION keep_account_periods;
DROP TABLE account_name, account_suspension;
