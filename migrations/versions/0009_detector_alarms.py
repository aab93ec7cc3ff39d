"""What districts' multivariate detectors said, whether or not it became an event."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.detector_alarms (
            model_id UUID NOT NULL REFERENCES water_infrastructure.ml_models (model_id) ON DELETE CASCADE,
            timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            detected_at TIMESTAMP WITH TIME ZONE NOT NULL,
            "end" TIMESTAMP WITH TIME ZONE,
            metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
            PRIMARY KEY (model_id, timestamp)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE water_infrastructure.detector_alarms")
