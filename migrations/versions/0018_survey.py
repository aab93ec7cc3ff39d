"""What each node and channel is taken for, and what each node and district lacks."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.node_survey (
            node_id TEXT NOT NULL PRIMARY KEY,
            surveyed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            described_at TIMESTAMP WITH TIME ZONE NOT NULL,
            district_believed JSONB,
            role_believed TEXT,
            why JSONB NOT NULL DEFAULT '[]',
            channels JSONB NOT NULL DEFAULT '[]',
            first_reading TIMESTAMP WITH TIME ZONE,
            last_reading TIMESTAMP WITH TIME ZONE,
            cadence_seconds DOUBLE PRECISION,
            days INTEGER NOT NULL,
            lacking JSONB NOT NULL DEFAULT '{}'
        )
        """
    )
    op.execute(
        """
        CREATE TABLE water_infrastructure.district_survey (
            district_id TEXT NOT NULL PRIMARY KEY,
            surveyed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            described_at TIMESTAMP WITH TIME ZONE,
            nodes INTEGER NOT NULL,
            lacking JSONB NOT NULL DEFAULT '{}',
            has JSONB NOT NULL DEFAULT '{}'
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.district_survey")
    op.execute("DROP TABLE water_infrastructure.node_survey")
