"""How accounts' names can be read, so that no two of them can be confused."""

from asyncpg import Connection

from service.accounts.names import readings

__depends__ = {"0006_decision"}


async def apply(db: Connection) -> None:
    """Write the readings of every name. If two names have one in common, the older account has it."""
    await db.execute(
        """
        CREATE TABLE account_reading (
            account_id uuid NOT NULL REFERENCES account (id) ON DELETE CASCADE,
            reading text NOT NULL,
            -- Another account had it before readings were compared.
            is_taken boolean NOT NULL DEFAULT false,
            PRIMARY KEY (account_id, reading)
        );
        CREATE UNIQUE INDEX account_reading_unique ON account_reading (reading) WHERE NOT is_taken;
        CREATE INDEX account_reading_taken ON account_reading (reading) WHERE is_taken;
        ALTER TABLE account DROP COLUMN name_skeleton;
        ALTER TABLE account DROP CONSTRAINT account_name_check;
        ALTER TABLE account ADD CONSTRAINT account_name_check CHECK (length(name) BETWEEN 1 AND 120);
        """
    )
    held = set[str]()
    rows = []
    for account in await db.fetch("SELECT id, name FROM account ORDER BY created_at, id"):
        own = readings(account["name"])
        rows += [(account["id"], reading, reading in held) for reading in own]
        held |= own
    await db.copy_records_to_table("account_reading", records=rows)


async def rollback(db: Connection) -> None:
    """Names are their own skeletons again, which are compared from the next change of each."""
    await db.execute(
        """
        DROP TABLE account_reading;
        ALTER TABLE account ADD COLUMN name_skeleton text;
        UPDATE account SET name_skeleton = name;
        ALTER TABLE account ALTER COLUMN name_skeleton SET NOT NULL;
        ALTER TABLE account ADD CONSTRAINT account_name_skeleton_unique UNIQUE (name_skeleton);
        """
    )
