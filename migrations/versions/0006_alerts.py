"""Alerts and the messages about them."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.alerts (
            alert_id UUID DEFAULT gen_random_uuid() NOT NULL,
            rule TEXT NOT NULL,
            subject TEXT NOT NULL,
            severity TEXT NOT NULL,
            state TEXT NOT NULL,
            summary TEXT NOT NULL,
            details JSONB DEFAULT '{}'::jsonb NOT NULL,
            since TIMESTAMP WITH TIME ZONE NOT NULL,
            fired_at TIMESTAMP WITH TIME ZONE,
            notified_at TIMESTAMP WITH TIME ZONE,
            resolved_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (alert_id),
            CONSTRAINT alerts_state_is_known CHECK (state IN ('pending', 'firing', 'resolved')),
            CONSTRAINT alerts_severity_is_known CHECK (severity IN ('info', 'warning', 'critical'))
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX alerts_one_at_a_time ON water_infrastructure.alerts (rule, subject) "
        "WHERE state <> 'resolved'"
    )
    op.execute("CREATE INDEX alerts_by_time ON water_infrastructure.alerts (since, alert_id)")
    op.execute(
        """
        CREATE TABLE water_infrastructure.alert_deliveries (
            delivery_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
            alert_id UUID NOT NULL,
            channel TEXT NOT NULL,
            message JSONB NOT NULL,
            attempts INTEGER DEFAULT 0 NOT NULL,
            next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            delivered_at TIMESTAMP WITH TIME ZONE,
            given_up_at TIMESTAMP WITH TIME ZONE,
            last_error TEXT,
            PRIMARY KEY (delivery_id),
            FOREIGN KEY (alert_id) REFERENCES water_infrastructure.alerts (alert_id) ON DELETE CASCADE
        )
        """
    )
    op.execute(
        "CREATE INDEX alert_deliveries_waiting ON water_infrastructure.alert_deliveries (next_attempt_at) "
        "WHERE delivered_at IS NULL AND given_up_at IS NULL"
    )
    op.execute("CREATE INDEX alert_deliveries_by_alert ON water_infrastructure.alert_deliveries (alert_id)")


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.alert_deliveries")
    op.execute("DROP TABLE water_infrastructure.alerts")
