"""Conclusions by district: chunks of them, each district's balances in rows of their own, the sample of the network."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.job_chunks ADD COLUMN conclusions JSONB")
    op.execute(
        """
        CREATE TABLE water_infrastructure.district_balances (
            district_id TEXT NOT NULL,
            time_window TEXT NOT NULL,
            window_start TIMESTAMP WITH TIME ZONE NOT NULL,
            window_end TIMESTAMP WITH TIME ZONE NOT NULL,
            balance JSONB NOT NULL,
            active_nodes INTEGER,
            total_nodes INTEGER,
            PRIMARY KEY (district_id, time_window, window_start)
        )
        """
    )
    op.execute(
        "CREATE INDEX district_balances_by_time ON water_infrastructure.district_balances (time_window, window_start)"
    )
    # How many meters told of each district is known from now on only.
    op.execute(
        """
        INSERT INTO water_infrastructure.district_balances
            (district_id, time_window, window_start, window_end, balance)
        SELECT zone.key, time_window, window_start, window_end, zone.value
        FROM water_infrastructure.network_efficiency, jsonb_each(zone_metrics) AS zone
        """
    )
    op.execute(
        """
        CREATE TABLE water_infrastructure.sampled_habits (
            valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
            node_id TEXT NOT NULL,
            measurement TEXT NOT NULL,
            learned_at TIMESTAMP WITH TIME ZONE NOT NULL,
            district_id TEXT,
            role TEXT,
            habits JSONB NOT NULL,
            PRIMARY KEY (valid_from, node_id, measurement)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.sampled_habits")
    op.execute("DROP TABLE water_infrastructure.district_balances")
    op.execute("ALTER TABLE water_infrastructure.job_chunks DROP COLUMN conclusions")
