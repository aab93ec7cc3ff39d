"""What the utility knows about its districts, for the indicators of loss."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.districts (
            district_id TEXT NOT NULL,
            district_name TEXT,
            mains_km DOUBLE PRECISION,
            connections INTEGER,
            private_pipe_km DOUBLE PRECISION,
            mean_pressure_metres DOUBLE PRECISION,
            night_use_litres DOUBLE PRECISION,
            leakage_exponent DOUBLE PRECISION,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (district_id)
        )
        """
    )
    op.execute("ALTER TABLE water_infrastructure.network_efficiency ADD COLUMN reason TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.network_efficiency DROP COLUMN reason")
    op.execute("DROP TABLE water_infrastructure.districts")
