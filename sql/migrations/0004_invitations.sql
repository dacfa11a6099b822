-- Mail, users who sign in, invitations, requests for grants, and what bounds them
-- depends: 0003_job_queue

-- migrate: apply

-- The last time it was done by the account itself: it has to wait before the next.
ALTER TABLE account ADD COLUMN renamed_at timestamptz;

-- “rn” looks like “m”, and “vv” like “w”. Where two accounts' names do, rename one of them first.
UPDATE account SET name_skeleton = replace(replace(name_skeleton, 'm', 'rn'), 'w', 'vv');

ALTER TABLE app_user ADD COLUMN name text CHECK (length(name) BETWEEN 1 AND 120);

CREATE INDEX membership_user ON membership (user_id);

-- Who did it: an account by one of its keys or users; neither where it was the operator, the service
-- itself, or a recipient of a mail who has no account.
ALTER TABLE event
    ADD COLUMN actor_account_id uuid REFERENCES account,
    ADD COLUMN actor_id uuid;

CREATE TABLE mail (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    recipient text NOT NULL CHECK (recipient = lower(recipient)),
    -- What the mail is about, such as an invitation.
    subject_id uuid,
    -- What its words are made of. The token in its link is not among it, but follows from its id.
    params jsonb NOT NULL,
    state text NOT NULL
        CHECK (state IN ('queued', 'sending', 'retrying', 'sent', 'failed', 'cancelled', 'suppressed')),
    error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Later than this nobody has any use for it.
    not_after timestamptz,
    sent_at timestamptz,
    CHECK ((state = 'sent') = (sent_at IS NOT NULL))
);

CREATE INDEX mail_subject ON mail (subject_id) WHERE subject_id IS NOT NULL;
CREATE INDEX mail_created_at ON mail (created_at);

CREATE TABLE invitation (
    id uuid PRIMARY KEY,
    inviter_id uuid NOT NULL REFERENCES account,
    email text NOT NULL CHECK (email = lower(email)),
    reason text NOT NULL CHECK (reason IN (
        'receive_leads', 'send_leads', 'domain_ownership_visibility', 'confirm_domain_ownership',
        'share_lead_quality_reports', 'join_account'
    )),
    -- Which role a colleague is to have.
    role text CHECK (role IN ('admin', 'member')),
    note text,
    vendor_label text,
    state text NOT NULL
        CHECK (state IN ('pending', 'accepted', 'declined', 'cancelled', 'expired')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- The latest mail, with the only token that is good.
    mail_id uuid NOT NULL REFERENCES mail,
    token_digest bytea NOT NULL CONSTRAINT invitation_token_unique UNIQUE
        CHECK (octet_length(token_digest) = 32),
    ended_at timestamptz,
    -- How the inviter was called when it ended: later names are not for whoever once was invited.
    inviter_name text,
    acceptor_id uuid REFERENCES account,
    connection_id uuid REFERENCES connection,
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK ((state = 'pending') = (inviter_name IS NULL)),
    CHECK ((state = 'accepted') = (acceptor_id IS NOT NULL)),
    CHECK ((reason = 'join_account') = (role IS NOT NULL)),
    CHECK (connection_id IS NULL OR state = 'accepted')
);

CREATE UNIQUE INDEX invitation_pending ON invitation (inviter_id, email, reason)
    WHERE state = 'pending';
CREATE INDEX invitation_inviter ON invitation (inviter_id, id);
CREATE INDEX invitation_mail ON invitation (mail_id);
CREATE INDEX invitation_email ON invitation (email, id);
CREATE INDEX invitation_expires_at ON invitation (expires_at) WHERE state = 'pending';
CREATE INDEX invitation_connection ON invitation (connection_id) WHERE connection_id IS NOT NULL;

-- Who wants no invitations any more: from one account, or from any where that is NULL.
CREATE TABLE invitation_opt_out (
    email text NOT NULL CHECK (email = lower(email)),
    inviter_id uuid REFERENCES account,
    opted_out_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT invitation_opt_out_unique UNIQUE NULLS NOT DISTINCT (email, inviter_id)
);

-- A viewer asks an owner, to which it is connected, to let it see its name.
CREATE TABLE grant_request (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connection,
    owner_id uuid NOT NULL REFERENCES account,
    viewer_id uuid NOT NULL REFERENCES account,
    requested_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= requested_at),
    outcome text CHECK (outcome IN ('granted', 'declined', 'withdrawn', 'disconnected')),
    CHECK (owner_id <> viewer_id),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

CREATE UNIQUE INDEX grant_request_live ON grant_request (owner_id, viewer_id) WHERE ended_at IS NULL;
CREATE INDEX visibility_grant_viewer ON visibility_grant (viewer_id) WHERE ended_at IS NULL;

CREATE TABLE sign_in_link (
    mail_id uuid PRIMARY KEY,
    -- No reference to a user: there may be none, and nobody is to be told.
    email text NOT NULL CHECK (email = lower(email)),
    token_digest bytea NOT NULL CONSTRAINT sign_in_link_token_unique UNIQUE
        CHECK (octet_length(token_digest) = 32),
    -- Where it leads: to an invitation, or to a page of ours.
    invitation_id uuid REFERENCES invitation,
    next_path text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE INDEX sign_in_link_expires_at ON sign_in_link (expires_at);

CREATE TABLE user_session (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user,
    token_digest bytea NOT NULL CONSTRAINT user_session_token_unique UNIQUE
        CHECK (octet_length(token_digest) = 32),
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);

CREATE INDEX user_session_user ON user_session (user_id);
CREATE INDEX user_session_expires_at ON user_session (expires_at);

-- How often something was done since the beginning of an hour or a day (UTC), by or to whom.
CREATE TABLE allowance (
    since timestamptz NOT NULL,
    what text NOT NULL,
    whose text NOT NULL,
    used integer NOT NULL,
    PRIMARY KEY (since, what, whose)
);

-- What was answered to a request that must not be carried out twice.
CREATE TABLE idempotent_request (
    account_id uuid NOT NULL REFERENCES account,
    key text NOT NULL,
    request_digest bytea NOT NULL,
    status integer NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, key)
);

CREATE INDEX idempotent_request_created_at ON idempotent_request (created_at);

-- migrate: rollback

DROP TABLE idempotent_request, allowance, user_session, sign_in_link, grant_request,
    invitation_opt_out, invitation, mail;

DROP INDEX visibility_grant_viewer, membership_user;

ALTER TABLE event
    DROP COLUMN actor_account_id,
    DROP COLUMN actor_id;

ALTER TABLE app_user DROP COLUMN name;

ALTER TABLE account DROP COLUMN renamed_at;
