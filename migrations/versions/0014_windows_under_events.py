"""An index of the windows over which events lie."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX computed_metrics_under_events ON water_infrastructure.computed_metrics (node_id, window_start)
        WHERE anomaly_count IS DISTINCT FROM 0
        """
    )


def downgrade() -> None:
    op.execute("DROP INDEX water_infrastructure.computed_metrics_under_events")
