"""What detection expected of each hour that it has judged, for charts to show beside what came."""

from __future__ import annotations

from alembic import op

from src.db import timescale

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.expected_values (
            node_id TEXT NOT NULL,
            measurement TEXT NOT NULL,
            window_start TIMESTAMP WITH TIME ZONE NOT NULL,
            expected DOUBLE PRECISION NOT NULL,
            lower DOUBLE PRECISION NOT NULL,
            upper DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (node_id, measurement, window_start)
        )
        """
    )
    # The few channels that are left out, which the overview asks for of all nodes at once.
    op.execute(
        "CREATE INDEX node_channels_not_counted ON water_infrastructure.node_channels (node_id, measurement) "
        "WHERE NOT is_counted"
    )
    if timescale.is_present(op.get_bind()):
        timescale.create_hypertables(op.get_bind(), ["expected_values"])


def downgrade() -> None:
    op.execute("DROP INDEX water_infrastructure.node_channels_not_counted")
    op.execute("DROP TABLE water_infrastructure.expected_values")
