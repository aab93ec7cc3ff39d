"""Coverage of each measurement in its windows, how much of a volume was spread by time, margins of balances, and what
the channels of nodes are.

Windows whose `computation_version` is "2" or less were computed without them, by the readings of two days alone; a
backfill (`python -m src.processing.backfill`) computes them anew.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMNS = {
    "computed_metrics": ("flow_coverage", "pressure_coverage", "temperature_coverage", "estimated_volume"),
    "rejected_readings": ("lowest", "highest"),
    "network_efficiency": ("input_margin", "output_margin", "loss_margin", "estimated_share"),
}


def upgrade() -> None:
    for table, names in COLUMNS.items():
        for name in names:
            op.execute(f"ALTER TABLE water_infrastructure.{table} ADD COLUMN {name} DOUBLE PRECISION")
    op.execute("ALTER TABLE water_infrastructure.network_metrics ADD COLUMN reason TEXT")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ADD COLUMN last_of_each TIMESTAMPTZ")
    op.execute(
        """
        CREATE TABLE water_infrastructure.node_channels (
            node_id TEXT NOT NULL,
            measurement TEXT NOT NULL,
            valid_from TIMESTAMPTZ,
            learned_at TIMESTAMPTZ,
            hours INTEGER NOT NULL DEFAULT 0,
            is_counted BOOLEAN NOT NULL DEFAULT true,
            is_connected BOOLEAN,
            copy_of TEXT,
            unit_questioned BOOLEAN NOT NULL DEFAULT false,
            likely_unit TEXT,
            resolution DOUBLE PRECISION,
            reporting TEXT,
            placeholders JSONB NOT NULL DEFAULT '[]',
            evidence JSONB NOT NULL DEFAULT '[]',
            counting_found_at TIMESTAMPTZ,
            is_two_way BOOLEAN,
            is_counter BOOLEAN,
            PRIMARY KEY (node_id, measurement)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.node_channels")
    op.execute("ALTER TABLE water_infrastructure.network_metrics DROP COLUMN reason")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks DROP COLUMN last_of_each")
    for table, names in COLUMNS.items():
        for name in names:
            op.execute(f"ALTER TABLE water_infrastructure.{table} DROP COLUMN {name}")
