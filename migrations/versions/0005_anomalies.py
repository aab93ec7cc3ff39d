"""What detection needs: steps between readings, readings set aside by node, habits, and who dealt with an event."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STEPS = [f"max_{stem}_{kind}" for stem in ("flow", "pressure", "temperature") for kind in ("change", "spike")]
_OF_EVENTS = {
    "district_id": "TEXT",
    "incident_id": "UUID",
    "acknowledged_at": "TIMESTAMP WITH TIME ZONE",
    "acknowledged_by": "TEXT",
    "resolved_by": "TEXT",
    "note": "TEXT",
}


def upgrade() -> None:
    for column in _STEPS:
        op.execute(f"ALTER TABLE water_infrastructure.computed_metrics ADD COLUMN {column} DOUBLE PRECISION")
    op.execute("ALTER TABLE water_infrastructure.computed_metrics ALTER COLUMN anomaly_count SET DEFAULT 0")
    op.execute("ALTER TABLE water_infrastructure.anomalies ADD COLUMN detected_at TIMESTAMP WITH TIME ZONE")
    op.execute('UPDATE water_infrastructure.anomalies SET detected_at = "timestamp"')
    op.execute("ALTER TABLE water_infrastructure.anomalies ALTER COLUMN detected_at SET NOT NULL")
    op.execute("ALTER TABLE water_infrastructure.anomalies ALTER COLUMN detected_at SET DEFAULT now()")
    for column, kind in _OF_EVENTS.items():
        op.execute(f"ALTER TABLE water_infrastructure.anomalies ADD COLUMN {column} {kind}")
    op.execute(
        """
        CREATE TABLE water_infrastructure.rejected_readings (
            node_id TEXT NOT NULL,
            quarter_start TIMESTAMP WITH TIME ZONE NOT NULL,
            reason TEXT NOT NULL,
            readings INTEGER NOT NULL,
            PRIMARY KEY (node_id, quarter_start, reason)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE water_infrastructure.node_habits (
            node_id TEXT NOT NULL,
            measurement TEXT NOT NULL,
            valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
            history_days DOUBLE PRECISION NOT NULL,
            habits JSONB DEFAULT '{}'::jsonb NOT NULL,
            PRIMARY KEY (node_id, measurement, valid_from)
        )
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.computed_metrics ALTER COLUMN anomaly_count DROP DEFAULT")
    op.execute("DROP TABLE water_infrastructure.node_habits")
    op.execute("DROP TABLE water_infrastructure.rejected_readings")
    for column in ["detected_at", *_OF_EVENTS]:
        op.execute(f"ALTER TABLE water_infrastructure.anomalies DROP COLUMN {column}")
    for column in _STEPS:
        op.execute(f"ALTER TABLE water_infrastructure.computed_metrics DROP COLUMN {column}")
