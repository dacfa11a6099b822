-- Find what happened between an account and one partner
-- depends: 0021_clocks_set_back

-- migrate: apply

CREATE INDEX event_partner ON event (account_id, (detail #>> '{partner,id}'), id)
    WHERE detail ? 'partner';

-- migrate: rollback

DROP INDEX event_partner;
