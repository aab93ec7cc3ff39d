"""Coverage of each measurement in its windows, and how much of a volume was spread by time.

Windows whose `computation_version` is "2" or less were computed without them, by the readings of two days alone; a
backfill (`python -m src.processing.backfill`) computes them anew.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMNS = ("flow_coverage", "pressure_coverage", "temperature_coverage", "estimated_volume")


def upgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE water_infrastructure.computed_metrics ADD COLUMN {name} DOUBLE PRECISION")


def downgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE water_infrastructure.computed_metrics DROP COLUMN {name}")
