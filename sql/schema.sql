SET check_function_bodies = false;

CREATE TYPE public.pgqueuer_status AS ENUM (
    'queued',
    'picked',
    'successful',
    'exception',
    'canceled',
    'deleted',
    'failed'
);

CREATE FUNCTION public.accounts_at(at timestamp with time zone) RETURNS TABLE(id uuid, name text)
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION public.confirmed_owner(viewer_id uuid, host text, covering_names text[], certificate_account_id uuid, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(status text, owner_id uuid, owner_name text, covered_by text, verified_at timestamp with time zone)
    LANGUAGE sql STABLE ROWS 1
    AS $$
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

CREATE FUNCTION public.count_certificates() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO certificate_usage AS kept
        SELECT imported_by, count(*), sum(bytes) FROM added
        WHERE imported_by IS NOT NULL GROUP BY imported_by ORDER BY imported_by
        ON CONFLICT (account_id) DO UPDATE SET
            certificates = kept.certificates + excluded.certificates,
            bytes = kept.bytes + excluded.bytes;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE certificate_usage SET bytes = certificate_usage.bytes + grown.bytes
        FROM (
            SELECT imported_by, sum(bytes) AS bytes
            FROM (
                SELECT imported_by, bytes FROM added UNION ALL SELECT imported_by, -bytes FROM removed
            ) AS changed
            WHERE imported_by IS NOT NULL GROUP BY imported_by
        ) AS grown
        WHERE account_id = grown.imported_by AND grown.bytes <> 0;
    ELSE
        UPDATE certificate_usage SET
            certificates = certificate_usage.certificates - gone.certificates,
            bytes = certificate_usage.bytes - gone.bytes
        FROM (
            SELECT imported_by, count(*) AS certificates, sum(bytes) AS bytes FROM removed
            WHERE imported_by IS NOT NULL GROUP BY imported_by
        ) AS gone
        WHERE account_id = gone.imported_by;
    END IF;
    RETURN NULL;

END
$$;

CREATE FUNCTION public.fn_pgqueuer_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;
    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;
    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;

$$;

CREATE FUNCTION public.grants_at(at timestamp with time zone) RETURNS TABLE(owner_id uuid, viewer_id uuid, started_at timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
    SELECT given.owner_id, given.viewer_id, given.started_at
    FROM visibility_grant AS given
    JOIN connection
        ON connection.id = given.connection_id
        AND is_live(connection.started_at, connection.ended_at, grants_at.at)
    WHERE is_live(given.started_at, given.ended_at, grants_at.at)
$$;

CREATE FUNCTION public.has_opted_out(email text, inviter_id uuid, reason text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT EXISTS (
        SELECT FROM invitation_opt_out AS unwanted
        WHERE mailbox_of(unwanted.email) = mailbox_of(has_opted_out.email)
          AND (unwanted.inviter_id IS NULL OR unwanted.inviter_id = has_opted_out.inviter_id)
          AND (has_opted_out.reason <> 'join_account' OR unwanted.covers_joining)
    )
$$;

CREATE FUNCTION public.is_live(started_at timestamp with time zone, ended_at timestamp with time zone, at timestamp with time zone) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE
        WHEN at IS NULL THEN ended_at IS NULL
        ELSE started_at <= at AND (ended_at > at) IS NOT FALSE
    END
$$;

CREATE FUNCTION public.keep_account_periods() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.least_id_at(at timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

CREATE FUNCTION public.mailbox_of(email text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
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
$_$;

CREATE FUNCTION public.make_answer_month(month timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    first date := date_trunc('month', month AT TIME ZONE 'UTC');
    name text := 'answer_' || to_char(first, 'YYYY_MM');
    since uuid := least_id_at(first::timestamp AT TIME ZONE 'UTC');
    until uuid := least_id_at((first + interval '1 month') AT TIME ZONE 'UTC');

BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Attached once it is made, which lets answers be put on record meanwhile.
    EXECUTE format('CREATE TABLE %I (LIKE answer INCLUDING ALL)', name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM answer_other WHERE id >= %L AND id < %L RETURNING *)
        INSERT INTO %I SELECT * FROM moved',
        since, until, name
    );
    EXECUTE format(
        'ALTER TABLE answer ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until
    );

END
$$;

CREATE FUNCTION public.owner_of_host(host text, covering_names text[], at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(owner_id uuid, owner_name text, domain text, verified_at timestamp with time zone)
    LANGUAGE sql STABLE ROWS 1
    AS $$
    SELECT owned.owner_id, owned.owner_name, owned.domain, owned.verified_at
    FROM ownerships_at(owner_of_host.at) AS owned
    WHERE owned.domain = ANY (owner_of_host.covering_names)
      AND (owned.covers_subdomains OR owned.domain = owner_of_host.host)
    ORDER BY length(owned.domain) DESC
    LIMIT 1
$$;

CREATE FUNCTION public.ownerships_at(at timestamp with time zone) RETURNS TABLE(domain text, covers_subdomains boolean, verified_at timestamp with time zone, owner_id uuid, owner_name text)
    LANGUAGE sql STABLE
    AS $$
    SELECT owned.domain, owned.covers_subdomains, owned.verified_at, owner.id, owner.name
    FROM ownership AS owned
    JOIN accounts_at(ownerships_at.at) AS owner ON owner.id = owned.account_id
    WHERE is_live(owned.started_at, owned.ended_at, ownerships_at.at)
$$;

CREATE TABLE public.account (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    suspended_at timestamp with time zone,
    renamed_at timestamp with time zone,
    CONSTRAINT account_name_check CHECK (((length(name) >= 1) AND (length(name) <= 120)))
);

CREATE TABLE public.app_user (
    id uuid NOT NULL,
    email text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    name text,
    answers_by uuid,
    CONSTRAINT app_user_email_check CHECK ((email = lower(email))),
    CONSTRAINT app_user_name_check CHECK (((length(name) >= 1) AND (length(name) <= 120)))
);

CREATE TABLE public.membership (
    account_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    muted text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT membership_muted_check CHECK ((muted <@ ARRAY['connections'::text, 'domains'::text])),
    CONSTRAINT membership_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'member'::text])))
);

CREATE VIEW public.account_address AS
 SELECT membership.account_id,
    membership.user_id,
    app_user.email
   FROM (public.membership
     JOIN public.app_user ON ((app_user.id = membership.user_id)))
  WHERE ((app_user.answers_by = membership.account_id) OR ((app_user.answers_by IS NULL) AND (NOT (EXISTS ( SELECT
           FROM public.membership other
          WHERE ((other.user_id = membership.user_id) AND (other.account_id <> membership.account_id)))))));

CREATE TABLE public.account_limit (
    account_id uuid NOT NULL,
    calls integer,
    certificates bigint,
    certificate_bytes bigint,
    purchases bigint,
    CONSTRAINT account_limit_calls_check CHECK ((calls > 0)),
    CONSTRAINT account_limit_certificate_bytes_check CHECK ((certificate_bytes >= 0)),
    CONSTRAINT account_limit_certificates_check CHECK ((certificates >= 0)),
    CONSTRAINT account_limit_purchases_check CHECK ((purchases >= 0))
);

CREATE TABLE public.account_name (
    account_id uuid NOT NULL,
    name text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT account_name_check1 CHECK ((ended_at >= started_at))
);

CREATE TABLE public.account_reading (
    account_id uuid NOT NULL,
    reading text NOT NULL,
    is_taken boolean DEFAULT false NOT NULL
);

CREATE TABLE public.account_suspension (
    account_id uuid NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT account_suspension_check CHECK ((ended_at >= started_at))
);

CREATE TABLE public.allowance (
    since timestamp with time zone NOT NULL,
    what text NOT NULL,
    whose text NOT NULL,
    used integer NOT NULL
);

CREATE TABLE public.answer (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    cert_id text,
    domain text,
    status text,
    owner_account_id uuid,
    owner_name text,
    covered_by text,
    verified_at timestamp with time zone,
    answered_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone,
    CONSTRAINT answer_check CHECK (((NOT (status IS DISTINCT FROM 'named'::text)) OR (num_nonnulls(owner_account_id, owner_name, covered_by, verified_at) = 0))),
    CONSTRAINT answer_status_check CHECK ((status = ANY (ARRAY['named'::text, 'verified'::text, 'none'::text, 'not_applicable'::text])))
)
PARTITION BY RANGE (id);

CREATE TABLE public.answer_other (
    id uuid CONSTRAINT answer_id_not_null NOT NULL,
    account_id uuid CONSTRAINT answer_account_id_not_null NOT NULL,
    api_key_id uuid CONSTRAINT answer_api_key_id_not_null NOT NULL,
    cert_id text,
    domain text,
    status text,
    owner_account_id uuid,
    owner_name text,
    covered_by text,
    verified_at timestamp with time zone,
    answered_at timestamp with time zone CONSTRAINT answer_answered_at_not_null NOT NULL,
    as_of timestamp with time zone,
    CONSTRAINT answer_check CHECK (((NOT (status IS DISTINCT FROM 'named'::text)) OR (num_nonnulls(owner_account_id, owner_name, covered_by, verified_at) = 0))),
    CONSTRAINT answer_status_check CHECK ((status = ANY (ARRAY['named'::text, 'verified'::text, 'none'::text, 'not_applicable'::text])))
);

CREATE TABLE public.api_key (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    digest bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone,
    name text,
    last_used_at timestamp with time zone,
    user_id uuid,
    CONSTRAINT api_key_digest_check CHECK ((octet_length(digest) = 32)),
    CONSTRAINT api_key_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100)))
);

CREATE TABLE public.batch (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    name text,
    state text NOT NULL,
    source text NOT NULL,
    options jsonb NOT NULL,
    layout jsonb,
    as_of timestamp with time zone,
    is_as_of_given boolean NOT NULL,
    first_answer_id uuid NOT NULL,
    rows integer,
    chunks integer,
    error jsonb,
    summary jsonb,
    upload_bytes bigint DEFAULT 0 NOT NULL,
    uploaded_at timestamp with time zone DEFAULT now() NOT NULL,
    upload_sha256 bytea,
    idempotency_key text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    answering_since timestamp with time zone,
    ended_at timestamp with time zone,
    expires_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    CONSTRAINT batch_check CHECK (((state = ANY (ARRAY['finished'::text, 'failed'::text, 'canceled'::text])) = (ended_at IS NOT NULL))),
    CONSTRAINT batch_check1 CHECK (((state <> ALL (ARRAY['answering'::text, 'summarizing'::text, 'finished'::text])) OR (as_of IS NOT NULL))),
    CONSTRAINT batch_chunks_check CHECK ((chunks >= 0)),
    CONSTRAINT batch_name_check CHECK ((length(name) <= 200)),
    CONSTRAINT batch_rows_check CHECK ((rows >= 0)),
    CONSTRAINT batch_source_check CHECK ((source = ANY (ARRAY['upload'::text, 'retained'::text]))),
    CONSTRAINT batch_state_check CHECK ((state = ANY (ARRAY['uploading'::text, 'reading'::text, 'answering'::text, 'summarizing'::text, 'finished'::text, 'failed'::text, 'canceled'::text]))),
    CONSTRAINT batch_upload_sha256_check CHECK ((octet_length(upload_sha256) = 32))
);

CREATE TABLE public.batch_chunk (
    batch_id uuid NOT NULL,
    number integer NOT NULL,
    first_row integer NOT NULL,
    rows integer NOT NULL,
    input bytea NOT NULL,
    told bytea,
    counts jsonb
);

ALTER TABLE ONLY public.batch_chunk ALTER COLUMN input SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.batch_chunk ALTER COLUMN told SET STORAGE EXTERNAL;

CREATE TABLE public.batch_format (
    batch_id uuid NOT NULL,
    format text NOT NULL,
    is_complete boolean DEFAULT false NOT NULL,
    error text
);

CREATE TABLE public.batch_result (
    batch_id uuid NOT NULL,
    format text NOT NULL,
    number integer NOT NULL,
    length integer NOT NULL,
    content bytea NOT NULL
);

ALTER TABLE ONLY public.batch_result ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE public.batch_upload (
    batch_id uuid NOT NULL,
    number integer NOT NULL,
    content bytea NOT NULL
);

ALTER TABLE ONLY public.batch_upload ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE SEQUENCE public.certificate_revision
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.certificate (
    cert_id text NOT NULL,
    imported_by uuid,
    kind text NOT NULL,
    account_id uuid,
    host text,
    covering_names text[],
    suffix_list text,
    created_at timestamp with time zone,
    expires_at timestamp with time zone,
    seconds_on_page double precision,
    facts jsonb NOT NULL,
    page_text text,
    fingerprints text[],
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    known text[] DEFAULT '{}'::text[] NOT NULL,
    fetched_at timestamp with time zone,
    last_event_at timestamp with time zone,
    revision bigint DEFAULT nextval('public.certificate_revision'::regclass) NOT NULL,
    bytes bigint GENERATED ALWAYS AS (((octet_length((facts)::text) + COALESCE(octet_length(page_text), 0)) + (40 * COALESCE(cardinality(fingerprints), 0)))) STORED NOT NULL,
    is_oversized boolean GENERATED ALWAYS AS (((octet_length((facts)::text) > 65536) OR (COALESCE(cardinality(fingerprints), 0) > 500))) STORED NOT NULL,
    CONSTRAINT certificate_cert_id_check CHECK (((length(cert_id) >= 3) AND (length(cert_id) <= 255))),
    CONSTRAINT certificate_check CHECK ((((host IS NULL) = (covering_names IS NULL)) AND ((host IS NULL) = (suffix_list IS NULL)))),
    CONSTRAINT certificate_kind_check CHECK ((kind = ANY (ARRAY['web'::text, 'mobile'::text, 'meta'::text]))),
    CONSTRAINT certificate_seconds_on_page_check CHECK ((seconds_on_page >= (0)::double precision))
);

CREATE TABLE public.certificate_usage (
    account_id uuid NOT NULL,
    certificates bigint NOT NULL,
    bytes bigint NOT NULL
);

CREATE TABLE public.connection (
    id uuid NOT NULL,
    buyer_id uuid NOT NULL,
    seller_id uuid NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT connection_check CHECK ((ended_at >= started_at)),
    CONSTRAINT connection_check1 CHECK ((buyer_id <> seller_id))
);

CREATE TABLE public.domain_claim (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    name text NOT NULL,
    covers_subdomains boolean NOT NULL,
    code text NOT NULL,
    added_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    begun_at timestamp with time zone,
    is_verified boolean DEFAULT false NOT NULL,
    reason text DEFAULT 'Ownership not yet verified'::text,
    negatives integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    warned_at timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    hint text,
    last_checked_at timestamp with time zone,
    last_verified_at timestamp with time zone,
    next_check_at timestamp with time zone,
    proves_subdomains boolean DEFAULT false NOT NULL,
    nameservers text[],
    at_risk boolean DEFAULT false NOT NULL,
    CONSTRAINT domain_claim_check CHECK (((removed_at IS NULL) OR (NOT is_verified))),
    CONSTRAINT domain_claim_check1 CHECK (((failing_since IS NULL) = (negatives = 0)))
);

CREATE TABLE public.domain_evidence (
    id bigint NOT NULL,
    claim_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    change text NOT NULL,
    evidence jsonb,
    public_id uuid DEFAULT gen_random_uuid() NOT NULL
);

ALTER TABLE public.domain_evidence ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.domain_evidence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.event (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    account_id uuid,
    detail jsonb NOT NULL,
    actor_account_id uuid,
    actor_id uuid,
    public_id uuid DEFAULT gen_random_uuid() NOT NULL
);

ALTER TABLE public.event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.grant_request (
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    viewer_id uuid NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    outcome text,
    CONSTRAINT grant_request_check CHECK ((ended_at >= requested_at)),
    CONSTRAINT grant_request_check1 CHECK ((owner_id <> viewer_id)),
    CONSTRAINT grant_request_check2 CHECK (((ended_at IS NULL) = (outcome IS NULL))),
    CONSTRAINT grant_request_outcome_check CHECK ((outcome = ANY (ARRAY['granted'::text, 'declined'::text, 'withdrawn'::text, 'disconnected'::text])))
);

CREATE TABLE public.idempotent_request (
    account_id uuid NOT NULL,
    key text NOT NULL,
    request_digest bytea NOT NULL,
    status integer NOT NULL,
    body bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.invitation (
    id uuid NOT NULL,
    inviter_id uuid NOT NULL,
    email text NOT NULL,
    reason text NOT NULL,
    role text,
    note text,
    vendor_label text,
    state text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    mail_id uuid NOT NULL,
    ended_at timestamp with time zone,
    inviter_name text,
    acceptor_id uuid,
    connection_id uuid,
    CONSTRAINT invitation_check CHECK (((state = 'pending'::text) = (ended_at IS NULL))),
    CONSTRAINT invitation_check1 CHECK (((state = 'pending'::text) = (inviter_name IS NULL))),
    CONSTRAINT invitation_check2 CHECK (((state = 'accepted'::text) = (acceptor_id IS NOT NULL))),
    CONSTRAINT invitation_check3 CHECK (((reason = 'join_account'::text) = (role IS NOT NULL))),
    CONSTRAINT invitation_check4 CHECK (((connection_id IS NULL) OR (state = 'accepted'::text))),
    CONSTRAINT invitation_email_check CHECK ((email = lower(email))),
    CONSTRAINT invitation_reason_check CHECK ((reason = ANY (ARRAY['receive_leads'::text, 'send_leads'::text, 'domain_ownership_visibility'::text, 'confirm_domain_ownership'::text, 'share_lead_quality_reports'::text, 'join_account'::text]))),
    CONSTRAINT invitation_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'member'::text]))),
    CONSTRAINT invitation_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'accepted'::text, 'declined'::text, 'cancelled'::text, 'expired'::text])))
);

CREATE TABLE public.invitation_link (
    token_digest bytea NOT NULL,
    invitation_id uuid NOT NULL,
    mail_id uuid NOT NULL,
    stop_digest bytea,
    CONSTRAINT invitation_link_stop_digest_check CHECK ((octet_length(stop_digest) = 32)),
    CONSTRAINT invitation_link_token_digest_check CHECK ((octet_length(token_digest) = 32))
);

CREATE TABLE public.invitation_opt_out (
    email text NOT NULL,
    inviter_id uuid,
    opted_out_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    covers_joining boolean DEFAULT false NOT NULL,
    inviter_name text,
    token_digest bytea,
    CONSTRAINT invitation_opt_out_check CHECK (((inviter_id IS NOT NULL) OR (NOT covers_joining))),
    CONSTRAINT invitation_opt_out_email_check CHECK ((email = lower(email))),
    CONSTRAINT invitation_opt_out_token_digest_check CHECK ((octet_length(token_digest) = 32))
);

CREATE VIEW public.live_grant AS
 SELECT owner_id,
    viewer_id,
    started_at
   FROM public.grants_at(NULL::timestamp with time zone) grants_at(owner_id, viewer_id, started_at);

CREATE VIEW public.live_ownership AS
 SELECT domain,
    covers_subdomains,
    verified_at,
    owner_id,
    owner_name
   FROM public.ownerships_at(NULL::timestamp with time zone) ownerships_at(domain, covers_subdomains, verified_at, owner_id, owner_name);

CREATE TABLE public.log (
    is_only boolean DEFAULT true NOT NULL,
    origin text NOT NULL,
    size bigint DEFAULT 0 NOT NULL,
    sealed_until timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    CONSTRAINT log_is_only_check CHECK (is_only)
);

CREATE TABLE public.log_checkpoint (
    size bigint NOT NULL,
    note text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.log_drop (
    before uuid NOT NULL,
    note text NOT NULL
);

CREATE TABLE public.log_key (
    verifier_key text NOT NULL,
    first_used_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.log_tile (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT log_tile_hashes_check CHECK (((octet_length(hashes) >= 32) AND (octet_length(hashes) <= 8192)))
);

ALTER TABLE ONLY public.log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE public.mail (
    id uuid NOT NULL,
    kind text NOT NULL,
    recipient text NOT NULL,
    subject_id uuid,
    params jsonb NOT NULL,
    state text NOT NULL,
    error text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    not_after timestamp with time zone,
    sent_at timestamp with time zone,
    CONSTRAINT mail_check CHECK (((state = ANY (ARRAY['sent'::text, 'written'::text])) = (sent_at IS NOT NULL))),
    CONSTRAINT mail_recipient_check CHECK ((recipient = lower(recipient))),
    CONSTRAINT mail_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'sending'::text, 'retrying'::text, 'sent'::text, 'written'::text, 'failed'::text, 'cancelled'::text, 'suppressed'::text])))
);

CREATE TABLE public.ownership (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    domain text NOT NULL,
    covers_subdomains boolean NOT NULL,
    method text NOT NULL,
    verified_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    end_reason text,
    claim_id uuid,
    CONSTRAINT ownership_check CHECK ((ended_at >= started_at)),
    CONSTRAINT ownership_check1 CHECK (((ended_at IS NULL) = (end_reason IS NULL))),
    CONSTRAINT ownership_claim_check CHECK (((method = 'dns'::text) = (claim_id IS NOT NULL))),
    CONSTRAINT ownership_method_check CHECK ((method = ANY (ARRAY['attested'::text, 'dns'::text])))
);

CREATE TABLE public.pgqueuer (
    id bigint NOT NULL,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    execute_after timestamp with time zone DEFAULT now() NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    slot bigint
);

CREATE SEQUENCE public.pgqueuer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.pgqueuer_id_seq OWNED BY public.pgqueuer.id;

CREATE TABLE public.pgqueuer_log (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    job_id bigint NOT NULL,
    status public.pgqueuer_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);

ALTER TABLE public.pgqueuer_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.pgqueuer_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.pgqueuer_schedules (
    id bigint NOT NULL,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    next_run timestamp with time zone DEFAULT now() NOT NULL,
    last_run timestamp with time zone,
    status public.pgqueuer_status DEFAULT 'queued'::public.pgqueuer_status
);

CREATE SEQUENCE public.pgqueuer_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.pgqueuer_schedules_id_seq OWNED BY public.pgqueuer_schedules.id;

CREATE TABLE public.pgqueuer_statistics (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT date_trunc('sec'::text, now()) NOT NULL,
    count bigint NOT NULL,
    priority integer NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL
);

CREATE SEQUENCE public.pgqueuer_statistics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.pgqueuer_statistics_id_seq OWNED BY public.pgqueuer_statistics.id;

CREATE TABLE public.retained_certificate (
    account_id uuid NOT NULL,
    cert_id text NOT NULL,
    reference text,
    vendor text,
    campaign_id text,
    retained_at timestamp with time zone NOT NULL,
    answer_id uuid NOT NULL
);

CREATE TABLE public.sealed_answer (
    "position" bigint NOT NULL,
    answer_id uuid NOT NULL,
    nonce bytea NOT NULL,
    CONSTRAINT sealed_answer_nonce_check CHECK ((octet_length(nonce) = 16))
);

CREATE TABLE public.sign_in_link (
    mail_id uuid NOT NULL,
    email text NOT NULL,
    token_digest bytea NOT NULL,
    invitation_id uuid,
    next_path text,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT sign_in_link_email_check CHECK ((email = lower(email))),
    CONSTRAINT sign_in_link_token_digest_check CHECK ((octet_length(token_digest) = 32))
);

CREATE TABLE public.user_session (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    token_digest bytea NOT NULL,
    started_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT user_session_token_digest_check CHECK ((octet_length(token_digest) = 32))
);

CREATE TABLE public.visibility_grant (
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    viewer_id uuid NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT visibility_grant_check CHECK ((ended_at >= started_at)),
    CONSTRAINT visibility_grant_check1 CHECK ((owner_id <> viewer_id))
);

ALTER TABLE ONLY public.answer ATTACH PARTITION public.answer_other DEFAULT;

ALTER TABLE ONLY public.pgqueuer ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_id_seq'::regclass);

ALTER TABLE ONLY public.pgqueuer_schedules ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_schedules_id_seq'::regclass);

ALTER TABLE ONLY public.pgqueuer_statistics ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_statistics_id_seq'::regclass);

ALTER TABLE ONLY public.account_limit
    ADD CONSTRAINT account_limit_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.account_reading
    ADD CONSTRAINT account_reading_pkey PRIMARY KEY (account_id, reading);

ALTER TABLE ONLY public.allowance
    ADD CONSTRAINT allowance_pkey PRIMARY KEY (since, what, whose);

ALTER TABLE ONLY public.answer
    ADD CONSTRAINT answer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.answer_other
    ADD CONSTRAINT answer_other_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_digest_unique UNIQUE (digest);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.app_user
    ADD CONSTRAINT app_user_email_unique UNIQUE (email);

ALTER TABLE ONLY public.app_user
    ADD CONSTRAINT app_user_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_answers UNIQUE (first_answer_id);

ALTER TABLE ONLY public.batch_chunk
    ADD CONSTRAINT batch_chunk_pkey PRIMARY KEY (batch_id, number);

ALTER TABLE ONLY public.batch_format
    ADD CONSTRAINT batch_format_pkey PRIMARY KEY (batch_id, format);

ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.batch_result
    ADD CONSTRAINT batch_result_pkey PRIMARY KEY (batch_id, format, number);

ALTER TABLE ONLY public.batch_upload
    ADD CONSTRAINT batch_upload_pkey PRIMARY KEY (batch_id, number);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_unique UNIQUE NULLS NOT DISTINCT (cert_id, imported_by);

ALTER TABLE ONLY public.certificate_usage
    ADD CONSTRAINT certificate_usage_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY public.connection
    ADD CONSTRAINT connection_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.domain_claim
    ADD CONSTRAINT domain_claim_code_unique UNIQUE (code);

ALTER TABLE ONLY public.domain_claim
    ADD CONSTRAINT domain_claim_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.domain_evidence
    ADD CONSTRAINT domain_evidence_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.domain_evidence
    ADD CONSTRAINT domain_evidence_public_id_unique UNIQUE (public_id);

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_public_id_unique UNIQUE (public_id);

ALTER TABLE ONLY public.grant_request
    ADD CONSTRAINT grant_request_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.idempotent_request
    ADD CONSTRAINT idempotent_request_pkey PRIMARY KEY (account_id, key);

ALTER TABLE ONLY public.invitation_link
    ADD CONSTRAINT invitation_link_pkey PRIMARY KEY (token_digest);

ALTER TABLE ONLY public.invitation_link
    ADD CONSTRAINT invitation_link_stop_unique UNIQUE (stop_digest);

ALTER TABLE ONLY public.invitation_opt_out
    ADD CONSTRAINT invitation_opt_out_token_unique UNIQUE (token_digest);

ALTER TABLE ONLY public.invitation_opt_out
    ADD CONSTRAINT invitation_opt_out_unique UNIQUE NULLS NOT DISTINCT (email, inviter_id);

ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT invitation_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.log_checkpoint
    ADD CONSTRAINT log_checkpoint_pkey PRIMARY KEY (size);

ALTER TABLE ONLY public.log_drop
    ADD CONSTRAINT log_drop_pkey PRIMARY KEY (before);

ALTER TABLE ONLY public.log_key
    ADD CONSTRAINT log_key_pkey PRIMARY KEY (verifier_key);

ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.log_tile
    ADD CONSTRAINT log_tile_pkey PRIMARY KEY (level, number);

ALTER TABLE ONLY public.mail
    ADD CONSTRAINT mail_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_pkey PRIMARY KEY (account_id, user_id);

ALTER TABLE ONLY public.ownership
    ADD CONSTRAINT ownership_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pgqueuer_log
    ADD CONSTRAINT pgqueuer_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pgqueuer
    ADD CONSTRAINT pgqueuer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_expression_entrypoint_key UNIQUE (expression, entrypoint);

ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pgqueuer_statistics
    ADD CONSTRAINT pgqueuer_statistics_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.retained_certificate
    ADD CONSTRAINT retained_certificate_pkey PRIMARY KEY (account_id, cert_id);

ALTER TABLE ONLY public.sealed_answer
    ADD CONSTRAINT sealed_answer_once UNIQUE (answer_id);

ALTER TABLE ONLY public.sealed_answer
    ADD CONSTRAINT sealed_answer_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY public.sign_in_link
    ADD CONSTRAINT sign_in_link_pkey PRIMARY KEY (mail_id);

ALTER TABLE ONLY public.sign_in_link
    ADD CONSTRAINT sign_in_link_token_unique UNIQUE (token_digest);

ALTER TABLE ONLY public.user_session
    ADD CONSTRAINT user_session_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.user_session
    ADD CONSTRAINT user_session_token_unique UNIQUE (token_digest);

ALTER TABLE ONLY public.visibility_grant
    ADD CONSTRAINT visibility_grant_pkey PRIMARY KEY (id);

CREATE UNIQUE INDEX account_name_live ON public.account_name USING btree (account_id) WHERE (ended_at IS NULL);

CREATE INDEX account_name_period ON public.account_name USING btree (account_id, started_at);

CREATE INDEX account_reading_taken ON public.account_reading USING btree (reading) WHERE is_taken;

CREATE UNIQUE INDEX account_reading_unique ON public.account_reading USING btree (reading) WHERE (NOT is_taken);

CREATE UNIQUE INDEX account_suspension_live ON public.account_suspension USING btree (account_id) WHERE (ended_at IS NULL);

CREATE INDEX account_suspension_period ON public.account_suspension USING btree (account_id, started_at);

CREATE INDEX answer_account ON ONLY public.answer USING btree (account_id, id);

CREATE INDEX answer_certificate ON ONLY public.answer USING btree (account_id, hashtextextended(cert_id, (0)::bigint));

CREATE INDEX answer_other_account_id_hashtextextended_idx ON public.answer_other USING btree (account_id, hashtextextended(cert_id, (0)::bigint));

CREATE INDEX answer_other_account_id_id_idx ON public.answer_other USING btree (account_id, id);

CREATE INDEX answer_time ON ONLY public.answer USING brin (answered_at) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX answer_other_answered_at_idx ON public.answer_other USING brin (answered_at) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX api_key_account ON public.api_key USING btree (account_id);

CREATE UNIQUE INDEX api_key_of_member ON public.api_key USING btree (account_id, user_id) WHERE (user_id IS NOT NULL);

CREATE INDEX batch_account ON public.batch USING btree (account_id, id);

CREATE INDEX batch_chunk_open ON public.batch_chunk USING btree (batch_id, number) WHERE (told IS NULL);

CREATE UNIQUE INDEX batch_once ON public.batch USING btree (account_id, idempotency_key);

CREATE INDEX batch_unfinished ON public.batch USING btree (id) WHERE (ended_at IS NULL);

CREATE INDEX certificate_recorded_at ON public.certificate USING btree (recorded_at);

CREATE UNIQUE INDEX connection_live ON public.connection USING btree (buyer_id, seller_id) WHERE (ended_at IS NULL);

CREATE INDEX connection_seller ON public.connection USING btree (seller_id);

CREATE INDEX domain_claim_due ON public.domain_claim USING btree (next_check_at) WHERE ((removed_at IS NULL) AND (next_check_at IS NOT NULL));

CREATE UNIQUE INDEX domain_claim_live ON public.domain_claim USING btree (account_id, name) WHERE (removed_at IS NULL);

CREATE INDEX domain_claim_name ON public.domain_claim USING btree (name) WHERE (removed_at IS NULL);

CREATE INDEX domain_evidence_claim ON public.domain_evidence USING btree (claim_id, id);

CREATE INDEX event_account ON public.event USING btree (account_id, id);

CREATE INDEX event_partner ON public.event USING btree (account_id, ((detail #>> '{partner,id}'::text[])), id) WHERE (detail ? 'partner'::text);

CREATE UNIQUE INDEX grant_request_live ON public.grant_request USING btree (owner_id, viewer_id) WHERE (ended_at IS NULL);

CREATE INDEX idempotent_request_created_at ON public.idempotent_request USING btree (created_at);

CREATE INDEX invitation_connection ON public.invitation USING btree (connection_id) WHERE (connection_id IS NOT NULL);

CREATE INDEX invitation_email ON public.invitation USING btree (email, id);

CREATE INDEX invitation_expires_at ON public.invitation USING btree (expires_at) WHERE (state = 'pending'::text);

CREATE INDEX invitation_inviter ON public.invitation USING btree (inviter_id, id);

CREATE INDEX invitation_mail ON public.invitation USING btree (mail_id);

CREATE INDEX invitation_mailbox ON public.invitation USING btree (public.mailbox_of(email)) WHERE (state = 'pending'::text);

CREATE INDEX invitation_opt_out_mailbox ON public.invitation_opt_out USING btree (public.mailbox_of(email));

CREATE UNIQUE INDEX invitation_pending ON public.invitation USING btree (inviter_id, email, reason) WHERE (state = 'pending'::text);

CREATE INDEX mail_created_at ON public.mail USING btree (created_at);

CREATE INDEX mail_subject ON public.mail USING btree (subject_id) WHERE (subject_id IS NOT NULL);

CREATE INDEX membership_user ON public.membership USING btree (user_id);

CREATE INDEX ownership_account ON public.ownership USING btree (account_id);

CREATE UNIQUE INDEX ownership_live ON public.ownership USING btree (domain) WHERE (ended_at IS NULL);

CREATE INDEX ownership_period ON public.ownership USING btree (domain, started_at);

CREATE INDEX pgqueuer_ep_ea_idx ON public.pgqueuer USING btree (entrypoint, execute_after) WHERE (status = 'queued'::public.pgqueuer_status);

CREATE INDEX pgqueuer_ep_prio_id_idx ON public.pgqueuer USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::public.pgqueuer_status);

CREATE INDEX pgqueuer_log_created ON public.pgqueuer_log USING btree (created);

CREATE INDEX pgqueuer_log_job_id_status ON public.pgqueuer_log USING btree (job_id, created DESC);

CREATE INDEX pgqueuer_log_not_aggregated ON public.pgqueuer_log USING btree ((1)) WHERE (NOT aggregated);

CREATE INDEX pgqueuer_log_status ON public.pgqueuer_log USING btree (status);

CREATE INDEX pgqueuer_picked_heartbeat_idx ON public.pgqueuer USING btree (heartbeat) WHERE (status = 'picked'::public.pgqueuer_status);

CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON public.pgqueuer USING btree (entrypoint, slot) WHERE ((status = 'picked'::public.pgqueuer_status) AND (slot IS NOT NULL));

CREATE INDEX pgqueuer_priority_id_id1_idx ON public.pgqueuer USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::public.pgqueuer_status);

CREATE INDEX pgqueuer_queue_manager_id_idx ON public.pgqueuer USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);

CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON public.pgqueuer_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);

CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON public.pgqueuer USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::public.pgqueuer_status, 'picked'::public.pgqueuer_status])) AND (dedupe_key IS NOT NULL));

CREATE INDEX pgqueuer_updated_id_id1_idx ON public.pgqueuer USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::public.pgqueuer_status);

CREATE INDEX retained_certificate_time ON public.retained_certificate USING btree (account_id, retained_at, cert_id);

CREATE INDEX sign_in_link_expires_at ON public.sign_in_link USING btree (expires_at);

CREATE INDEX user_session_expires_at ON public.user_session USING btree (expires_at);

CREATE INDEX user_session_user ON public.user_session USING btree (user_id);

CREATE INDEX visibility_grant_connection ON public.visibility_grant USING btree (connection_id);

CREATE UNIQUE INDEX visibility_grant_live ON public.visibility_grant USING btree (owner_id, viewer_id) WHERE (ended_at IS NULL);

CREATE INDEX visibility_grant_period ON public.visibility_grant USING btree (owner_id, viewer_id, started_at);

CREATE INDEX visibility_grant_viewer ON public.visibility_grant USING btree (viewer_id) WHERE (ended_at IS NULL);

ALTER INDEX public.answer_certificate ATTACH PARTITION public.answer_other_account_id_hashtextextended_idx;

ALTER INDEX public.answer_account ATTACH PARTITION public.answer_other_account_id_id_idx;

ALTER INDEX public.answer_time ATTACH PARTITION public.answer_other_answered_at_idx;

ALTER INDEX public.answer_pkey ATTACH PARTITION public.answer_other_pkey;

CREATE TRIGGER account_periods AFTER INSERT OR UPDATE OF name, suspended_at ON public.account FOR EACH ROW EXECUTE FUNCTION public.keep_account_periods();

CREATE TRIGGER certificate_added AFTER INSERT ON public.certificate REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.count_certificates();

CREATE TRIGGER certificate_changed AFTER UPDATE ON public.certificate REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.count_certificates();

CREATE TRIGGER certificate_removed AFTER DELETE ON public.certificate REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION public.count_certificates();

CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION public.fn_pgqueuer_changed();

ALTER TABLE ONLY public.account_limit
    ADD CONSTRAINT account_limit_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.account_name
    ADD CONSTRAINT account_name_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.account_reading
    ADD CONSTRAINT account_reading_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.account_suspension
    ADD CONSTRAINT account_suspension_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.app_user(id);

ALTER TABLE ONLY public.app_user
    ADD CONSTRAINT app_user_answers_by_fkey FOREIGN KEY (id, answers_by) REFERENCES public.membership(user_id, account_id) ON DELETE SET NULL (answers_by);

ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES public.api_key(id);

ALTER TABLE ONLY public.batch_chunk
    ADD CONSTRAINT batch_chunk_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batch(id);

ALTER TABLE ONLY public.batch_format
    ADD CONSTRAINT batch_format_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batch(id);

ALTER TABLE ONLY public.batch_result
    ADD CONSTRAINT batch_result_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batch(id);

ALTER TABLE ONLY public.batch_upload
    ADD CONSTRAINT batch_upload_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batch(id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_imported_by_fkey FOREIGN KEY (imported_by) REFERENCES public.account(id);

ALTER TABLE ONLY public.certificate_usage
    ADD CONSTRAINT certificate_usage_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.connection
    ADD CONSTRAINT connection_buyer_id_fkey FOREIGN KEY (buyer_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.connection
    ADD CONSTRAINT connection_seller_id_fkey FOREIGN KEY (seller_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.domain_claim
    ADD CONSTRAINT domain_claim_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.domain_evidence
    ADD CONSTRAINT domain_evidence_claim_id_fkey FOREIGN KEY (claim_id) REFERENCES public.domain_claim(id);

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_actor_account_id_fkey FOREIGN KEY (actor_account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.grant_request
    ADD CONSTRAINT grant_request_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connection(id);

ALTER TABLE ONLY public.grant_request
    ADD CONSTRAINT grant_request_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.grant_request
    ADD CONSTRAINT grant_request_viewer_id_fkey FOREIGN KEY (viewer_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.idempotent_request
    ADD CONSTRAINT idempotent_request_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT invitation_acceptor_id_fkey FOREIGN KEY (acceptor_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT invitation_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connection(id);

ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT invitation_inviter_id_fkey FOREIGN KEY (inviter_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.invitation_link
    ADD CONSTRAINT invitation_link_invitation_id_fkey FOREIGN KEY (invitation_id) REFERENCES public.invitation(id);

ALTER TABLE ONLY public.invitation_link
    ADD CONSTRAINT invitation_link_mail_id_fkey FOREIGN KEY (mail_id) REFERENCES public.mail(id);

ALTER TABLE ONLY public.invitation
    ADD CONSTRAINT invitation_mail_id_fkey FOREIGN KEY (mail_id) REFERENCES public.mail(id);

ALTER TABLE ONLY public.invitation_opt_out
    ADD CONSTRAINT invitation_opt_out_inviter_id_fkey FOREIGN KEY (inviter_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.app_user(id);

ALTER TABLE ONLY public.ownership
    ADD CONSTRAINT ownership_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.ownership
    ADD CONSTRAINT ownership_claim_id_fkey FOREIGN KEY (claim_id) REFERENCES public.domain_claim(id);

ALTER TABLE ONLY public.retained_certificate
    ADD CONSTRAINT retained_certificate_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.sign_in_link
    ADD CONSTRAINT sign_in_link_invitation_id_fkey FOREIGN KEY (invitation_id) REFERENCES public.invitation(id);

ALTER TABLE ONLY public.user_session
    ADD CONSTRAINT user_session_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.app_user(id);

ALTER TABLE ONLY public.visibility_grant
    ADD CONSTRAINT visibility_grant_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connection(id);

ALTER TABLE ONLY public.visibility_grant
    ADD CONSTRAINT visibility_grant_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.visibility_grant
    ADD CONSTRAINT visibility_grant_viewer_id_fkey FOREIGN KEY (viewer_id) REFERENCES public.account(id);
