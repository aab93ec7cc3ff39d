"""API keys, of which only digests are stored, and the record of their use."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.api_keys (
            key_id TEXT NOT NULL,
            key_name TEXT NOT NULL,
            digest BYTEA NOT NULL,
            scope TEXT NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE NOT NULL,
            created_by TEXT NOT NULL,
            expires_at TIMESTAMP WITH TIME ZONE,
            revoked_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (key_id),
            CONSTRAINT api_keys_scope_is_known CHECK (scope IN ('read', 'write', 'admin'))
        )
        """
    )
    op.execute(
        """
        CREATE TABLE water_infrastructure.api_key_usage (
            key_id TEXT NOT NULL,
            hour TIMESTAMP WITH TIME ZONE NOT NULL,
            address TEXT NOT NULL,
            requests BIGINT DEFAULT 0 NOT NULL,
            refused BIGINT DEFAULT 0 NOT NULL,
            last_used_at TIMESTAMP WITH TIME ZONE NOT NULL,
            PRIMARY KEY (key_id, hour, address)
        )
        """
    )
    op.execute("CREATE INDEX api_key_usage_by_hour ON water_infrastructure.api_key_usage (hour)")


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.api_key_usage")
    op.execute("DROP TABLE water_infrastructure.api_keys")
