"""Recommendations: per district the latest word on its pressure set-points; and why a model's data have drifted."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.recommendations (
            district_id TEXT NOT NULL,
            computed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            outcome TEXT NOT NULL,
            reason TEXT NOT NULL,
            model_id UUID,
            inlet_node_id TEXT,
            critical_node_id TEXT,
            minimum_pressure DOUBLE PRECISION,
            schedule JSONB DEFAULT '[]'::jsonb NOT NULL,
            leakage_volume DOUBLE PRECISION,
            saving_volume DOUBLE PRECISION,
            saving_volume_lower DOUBLE PRECISION,
            saving_volume_upper DOUBLE PRECISION,
            PRIMARY KEY (district_id),
            CONSTRAINT recommendations_outcome_is_known CHECK (outcome IN ('recommended', 'refused'))
        )
        """
    )
    op.execute("ALTER TABLE water_infrastructure.model_performance ADD COLUMN drift_reason TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE water_infrastructure.model_performance DROP COLUMN drift_reason")
    op.execute("DROP TABLE water_infrastructure.recommendations")
