-- Emails that are written to files, since no mail server is configured, are not “sent”
-- depends: 0009_one_id

-- migrate: apply

ALTER TABLE mail DROP CONSTRAINT mail_check, DROP CONSTRAINT mail_state_check;

ALTER TABLE mail
    ADD CONSTRAINT mail_state_check CHECK (state IN (
        'queued', 'sending', 'retrying', 'sent', 'written', 'failed', 'cancelled', 'suppressed'
    )),
    ADD CONSTRAINT mail_check CHECK ((state IN ('sent', 'written')) = (sent_at IS NOT NULL));

-- migrate: rollback

UPDATE mail SET state = 'sent' WHERE state = 'written';

ALTER TABLE mail DROP CONSTRAINT mail_check, DROP CONSTRAINT mail_state_check;

ALTER TABLE mail
    ADD CONSTRAINT mail_state_check CHECK (state IN (
        'queued', 'sending', 'retrying', 'sent', 'failed', 'cancelled', 'suppressed'
    )),
    ADD CONSTRAINT mail_check CHECK ((state = 'sent') = (sent_at IS NOT NULL));
