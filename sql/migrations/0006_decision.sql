-- Who owns a host and who may be named, as views and functions that statements join
-- depends: 0005_domains

-- migrate: apply

-- Who owns what now. A suspended account owns nothing.
CREATE VIEW live_ownership AS
SELECT
    ownership.domain,
    ownership.covers_subdomains,
    ownership.verified_at,
    account.id AS owner_id,
    account.name AS owner_name
FROM ownership
JOIN account ON account.id = ownership.account_id AND account.suspended_at IS NULL
WHERE ownership.ended_at IS NULL;

-- Who shows its name to whom now. A grant counts only while the connection it was given on is live.
CREATE VIEW live_grant AS
SELECT visibility_grant.owner_id, visibility_grant.viewer_id, visibility_grant.started_at
FROM visibility_grant
JOIN connection ON connection.id = visibility_grant.connection_id AND connection.ended_at IS NULL
WHERE visibility_grant.ended_at IS NULL;

-- The owner of a host: the account that owns the most specific of the names that cover it. Those
-- are the host and its ancestors up to the registrable domain, which the service finds by the
-- Public Suffix List.
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

-- THE decision: what a viewer learns about the owner of a certificate's host.
--
-- | owner of the host                              | relation to the viewer           | status         |
-- |------------------------------------------------|----------------------------------|----------------|
-- | nobody                                         | –                                | none           |
-- | an account                                     | the viewer itself                | named          |
-- | an account                                     | connected, and a grant is live   | named          |
-- | an account                                     | anything else                    | verified       |
-- | no host: the certificate's account, if known   | as above                         | as above       |
-- | no host, and no account                        | –                                | not_applicable |
--
-- What identifies the owner is set only if the status is named.
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

-- The email addresses an account speaks for: its admins', and those of members in no other account.
-- Otherwise it could get hold of what was sent to people at other accounts.
CREATE VIEW account_address AS
SELECT membership.account_id, membership.user_id, app_user.email
FROM membership
JOIN app_user ON app_user.id = membership.user_id
WHERE membership.role = 'admin'
   OR NOT EXISTS (
       SELECT FROM membership AS other
       WHERE other.user_id = membership.user_id AND other.account_id <> membership.account_id
   );

-- Each subject has schedules of its own now.
DELETE FROM pgqueuer_schedules WHERE entrypoint = 'tidy_up';

-- migrate: rollback

DROP VIEW account_address;

DROP FUNCTION confirmed_owner;

DROP FUNCTION owner_of_host;

DROP VIEW live_grant, live_ownership;
