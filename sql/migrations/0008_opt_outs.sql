-- Links of every email about an invitation, and opt-outs that their recipients can undo
-- depends: 0007_readings

-- migrate: apply

-- Every link stands for opting out. The one of the invitation's latest email stands for the rest.
CREATE TABLE invitation_link (
    token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    invitation_id uuid NOT NULL REFERENCES invitation,
    mail_id uuid NOT NULL REFERENCES mail
);

INSERT INTO invitation_link (token_digest, invitation_id, mail_id)
SELECT token_digest, id, mail_id FROM invitation;

ALTER TABLE invitation DROP COLUMN token_digest;

ALTER TABLE invitation_opt_out
    -- Whether it is from this inviter's invitations to join its account as well.
    ADD COLUMN covers_joining boolean NOT NULL DEFAULT false CHECK (inviter_id IS NOT NULL OR NOT covers_joining),
    -- How the inviter was called: later names are not for whoever wants nothing of it.
    ADD COLUMN inviter_name text,
    -- The link in the email that confirms it, by which it is undone.
    ADD COLUMN token_digest bytea CONSTRAINT invitation_opt_out_token_unique UNIQUE
        CHECK (octet_length(token_digest) = 32);

UPDATE invitation_opt_out SET inviter_name = account.name
FROM account WHERE account.id = invitation_opt_out.inviter_id;

-- Invitations to join an account are about colleagues: opting out of partners' spares them.
CREATE FUNCTION has_opted_out(email text, inviter_id uuid, reason text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM invitation_opt_out AS unwanted
        WHERE unwanted.email = has_opted_out.email
          AND (unwanted.inviter_id IS NULL OR unwanted.inviter_id = has_opted_out.inviter_id)
          AND (has_opted_out.reason <> 'join_account' OR unwanted.covers_joining)
    )
$$;

-- migrate: rollback

DROP FUNCTION has_opted_out;

ALTER TABLE invitation_opt_out DROP COLUMN covers_joining, DROP COLUMN inviter_name, DROP COLUMN token_digest;

ALTER TABLE invitation ADD COLUMN token_digest bytea CONSTRAINT invitation_token_unique UNIQUE
    CHECK (octet_length(token_digest) = 32);

UPDATE invitation SET token_digest = link.token_digest
FROM invitation_link AS link
WHERE link.invitation_id = invitation.id AND link.mail_id = invitation.mail_id;

ALTER TABLE invitation ALTER COLUMN token_digest SET NOT NULL;

DROP TABLE invitation_link;
