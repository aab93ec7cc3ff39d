"""The data generation, which names cache entries; watermarks that tell valid readings from mere rows."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE water_infrastructure.data_generation (
            only_row BOOLEAN DEFAULT true NOT NULL,
            generation BIGINT NOT NULL,
            PRIMARY KEY (only_row),
            CONSTRAINT data_generation_has_one_row CHECK (only_row)
        )
        """
    )
    op.execute("INSERT INTO water_infrastructure.data_generation (generation) VALUES (1)")
    # A sensor that sends nothing valid must not be read from its beginning at every tick.
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ADD COLUMN last_row TIMESTAMP WITH TIME ZONE")
    op.execute("UPDATE water_infrastructure.ingestion_watermarks SET last_row = last_reading")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ALTER COLUMN last_row SET NOT NULL")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ALTER COLUMN last_reading DROP NOT NULL")
    # The latest job of a type, which /api/v1/status shows.
    op.execute("CREATE INDEX processing_jobs_by_type ON water_infrastructure.processing_jobs (job_type, created_at)")


def downgrade() -> None:
    op.execute("DROP INDEX water_infrastructure.processing_jobs_by_type")
    op.execute("DELETE FROM water_infrastructure.ingestion_watermarks WHERE last_reading IS NULL")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks ALTER COLUMN last_reading SET NOT NULL")
    op.execute("ALTER TABLE water_infrastructure.ingestion_watermarks DROP COLUMN last_row")
    op.execute("DROP TABLE water_infrastructure.data_generation")
