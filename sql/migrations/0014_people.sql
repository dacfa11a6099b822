-- Who speaks for a person, what a link may do, and mailboxes under several spellings
-- depends: 0013_limits

-- migrate: apply

-- The account whose keys answer for a person who belongs to several. The person alone sets it.
ALTER TABLE app_user
    ADD COLUMN answers_by uuid,
    ADD CONSTRAINT app_user_answers_by_fkey FOREIGN KEY (id, answers_by)
        REFERENCES membership (user_id, account_id) ON DELETE SET NULL (answers_by);

-- The addresses that an account's keys speak for: those of people who belong to it alone, or who chose
-- it. A role is no proof, because the account itself gives it.
CREATE OR REPLACE VIEW account_address AS
SELECT membership.account_id, membership.user_id, app_user.email
FROM membership
JOIN app_user ON app_user.id = membership.user_id
WHERE app_user.answers_by = membership.account_id
   OR app_user.answers_by IS NULL AND NOT EXISTS (
       SELECT FROM membership AS other
       WHERE other.user_id = membership.user_id AND other.account_id <> membership.account_id
   );

-- What an email's link to stop invitations ends in. It can do nothing else. NULL: an email from before,
-- whose other link also stops them.
ALTER TABLE invitation_link
    ADD COLUMN stop_digest bytea CHECK (octet_length(stop_digest) = 32),
    ADD CONSTRAINT invitation_link_stop_unique UNIQUE (stop_digest);

-- The mailbox that an address leads to: without what follows a plus sign (RFC 5233), and for Google's,
-- without dots and under one domain.
CREATE FUNCTION mailbox_of(email text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN parts.domain IN ('gmail.com', 'googlemail.com')
            THEN replace(parts.name, '.', '') || '@gmail.com'
        ELSE parts.name || '@' || parts.domain
    END
    FROM (
        SELECT
            regexp_replace(split_part(email, '@', 1), '(.)\+.*$', '\1') AS name,
            split_part(email, '@', 2) AS domain
    ) AS parts
$$;

CREATE INDEX invitation_opt_out_mailbox ON invitation_opt_out (mailbox_of(email));
CREATE INDEX invitation_mailbox ON invitation (mailbox_of(email)) WHERE state = 'pending';

CREATE OR REPLACE FUNCTION has_opted_out(email text, inviter_id uuid, reason text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM invitation_opt_out AS unwanted
        WHERE mailbox_of(unwanted.email) = mailbox_of(has_opted_out.email)
          AND (unwanted.inviter_id IS NULL OR unwanted.inviter_id = has_opted_out.inviter_id)
          AND (has_opted_out.reason <> 'join_account' OR unwanted.covers_joining)
    )
$$;

-- migrate: rollback

CREATE OR REPLACE FUNCTION has_opted_out(email text, inviter_id uuid, reason text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM invitation_opt_out AS unwanted
        WHERE unwanted.email = has_opted_out.email
          AND (unwanted.inviter_id IS NULL OR unwanted.inviter_id = has_opted_out.inviter_id)
          AND (has_opted_out.reason <> 'join_account' OR unwanted.covers_joining)
    )
$$;

DROP INDEX invitation_opt_out_mailbox, invitation_mailbox;
DROP FUNCTION mailbox_of;

ALTER TABLE invitation_link DROP COLUMN stop_digest;

CREATE OR REPLACE VIEW account_address AS
SELECT membership.account_id, membership.user_id, app_user.email
FROM membership
JOIN app_user ON app_user.id = membership.user_id
WHERE membership.role = 'admin'
   OR NOT EXISTS (
       SELECT FROM membership AS other
       WHERE other.user_id = membership.user_id AND other.account_id <> membership.account_id
   );

ALTER TABLE app_user DROP COLUMN answers_by;
