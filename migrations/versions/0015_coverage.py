"""Coverage of each measurement in its windows, how much of a volume was spread by time, and margins of balances.

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
    "network_efficiency": ("input_margin", "output_margin", "loss_margin", "estimated_share"),
}


def upgrade() -> None:
    for table, names in COLUMNS.items():
        for name in names:
            op.execute(f"ALTER TABLE water_infrastructure.{table} ADD COLUMN {name} DOUBLE PRECISION")


def downgrade() -> None:
    for table, names in COLUMNS.items():
        for name in names:
            op.execute(f"ALTER TABLE water_infrastructure.{table} DROP COLUMN {name}")
