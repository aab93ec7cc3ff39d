# ruff: noqa: E501 - the statements are read as SQL, one clause a line
"""The first schema: every table of water_infrastructure."""

from __future__ import annotations

from alembic import op

from src.db import timescale

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
        CREATE TABLE water_infrastructure.anomalies (
            anomaly_id UUID DEFAULT gen_random_uuid() NOT NULL,
            timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            "end" TIMESTAMP WITH TIME ZONE,
            node_id TEXT NOT NULL,
            anomaly_type TEXT NOT NULL,
            severity TEXT NOT NULL,
            measurement_type TEXT,
            actual_value DOUBLE PRECISION,
            expected_value DOUBLE PRECISION,
            deviation_percentage DOUBLE PRECISION,
            detection_method TEXT NOT NULL,
            is_confirmed BOOLEAN,
            resolved_at TIMESTAMP WITH TIME ZONE,
            metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (anomaly_id),
            CONSTRAINT anomalies_severity_is_known CHECK (severity IN ('info', 'warning', 'critical'))
        )
    """,
    """
        CREATE INDEX anomalies_by_node ON water_infrastructure.anomalies (node_id, timestamp)
    """,
    """
        CREATE INDEX anomalies_by_time ON water_infrastructure.anomalies (timestamp, anomaly_id)
    """,
    """
        CREATE INDEX anomalies_open ON water_infrastructure.anomalies (timestamp) WHERE resolved_at IS NULL
    """,
    """
        CREATE TABLE water_infrastructure.computed_metrics (
            node_id TEXT NOT NULL,
            time_window TEXT NOT NULL,
            window_start TIMESTAMP WITH TIME ZONE NOT NULL,
            window_end TIMESTAMP WITH TIME ZONE NOT NULL,
            avg_flow_rate DOUBLE PRECISION,
            min_flow_rate DOUBLE PRECISION,
            max_flow_rate DOUBLE PRECISION,
            flow_variance DOUBLE PRECISION,
            total_volume DOUBLE PRECISION,
            avg_pressure DOUBLE PRECISION,
            min_pressure DOUBLE PRECISION,
            max_pressure DOUBLE PRECISION,
            pressure_variance DOUBLE PRECISION,
            avg_temperature DOUBLE PRECISION,
            min_temperature DOUBLE PRECISION,
            max_temperature DOUBLE PRECISION,
            temperature_variance DOUBLE PRECISION,
            reading_count INTEGER NOT NULL,
            flow_count INTEGER NOT NULL,
            pressure_count INTEGER NOT NULL,
            temperature_count INTEGER NOT NULL,
            cadence_seconds DOUBLE PRECISION,
            data_completeness DOUBLE PRECISION,
            anomaly_count INTEGER,
            quality_score DOUBLE PRECISION,
            computed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            computation_version TEXT NOT NULL,
            PRIMARY KEY (node_id, time_window, window_start),
            CONSTRAINT computed_metrics_time_window_is_known CHECK (time_window IN ('5min', '1hour', '1day'))
        )
    """,
    """
        CREATE INDEX computed_metrics_by_time ON water_infrastructure.computed_metrics (time_window, window_start)
    """,
    """
        CREATE TABLE water_infrastructure.data_quality_metrics (
            node_id TEXT NOT NULL,
            check_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            time_window TEXT NOT NULL,
            completeness_score DOUBLE PRECISION,
            validity_score DOUBLE PRECISION,
            consistency_score DOUBLE PRECISION,
            overall_quality_score DOUBLE PRECISION,
            missing_data_points INTEGER,
            invalid_values INTEGER,
            outliers_detected INTEGER,
            quality_issues JSONB DEFAULT '[]'::jsonb NOT NULL,
            PRIMARY KEY (node_id, check_timestamp, time_window)
        )
    """,
    """
        CREATE TABLE water_infrastructure.ingestion_watermarks (
            node_id TEXT NOT NULL,
            last_reading TIMESTAMP WITH TIME ZONE NOT NULL,
            last_arrival TIMESTAMP WITH TIME ZONE,
            updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
            PRIMARY KEY (node_id)
        )
    """,
    """
        CREATE INDEX ingestion_watermarks_latest ON water_infrastructure.ingestion_watermarks (last_reading)
    """,
    """
        CREATE TABLE water_infrastructure.ml_models (
            model_id UUID DEFAULT gen_random_uuid() NOT NULL,
            model_name TEXT NOT NULL,
            model_type TEXT NOT NULL,
            version TEXT NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            training_started_at TIMESTAMP WITH TIME ZONE,
            training_completed_at TIMESTAMP WITH TIME ZONE,
            training_duration_seconds DOUBLE PRECISION,
            status TEXT NOT NULL,
            is_active BOOLEAN DEFAULT false NOT NULL,
            activated_at TIMESTAMP WITH TIME ZONE,
            retired_at TIMESTAMP WITH TIME ZONE,
            metrics JSONB DEFAULT '{}'::jsonb NOT NULL,
            validation_metrics JSONB DEFAULT '{}'::jsonb NOT NULL,
            parameters JSONB DEFAULT '{}'::jsonb NOT NULL,
            training_data_start TIMESTAMP WITH TIME ZONE,
            training_data_end TIMESTAMP WITH TIME ZONE,
            training_samples BIGINT,
            model_size_bytes BIGINT,
            model_hash TEXT,
            artefact BYTEA,
            PRIMARY KEY (model_id),
            CONSTRAINT ml_models_type_is_known CHECK (model_type IN ('flow_prediction', 'anomaly_detection', 'efficiency_optimization')),
            CONSTRAINT ml_models_status_is_known CHECK (status IN ('created', 'training', 'validating', 'shadow', 'active', 'retired', 'failed'))
        )
    """,
    """
        CREATE INDEX ml_models_active ON water_infrastructure.ml_models (model_type, is_active)
    """,
    """
        CREATE TABLE water_infrastructure.ml_predictions_cache (
            model_id UUID NOT NULL,
            node_id TEXT NOT NULL,
            prediction_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            target_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            prediction_horizon_hours INTEGER NOT NULL,
            predicted_flow_rate DOUBLE PRECISION,
            flow_rate_lower DOUBLE PRECISION,
            flow_rate_upper DOUBLE PRECISION,
            confidence_score DOUBLE PRECISION,
            features_used JSONB DEFAULT '{}'::jsonb NOT NULL,
            PRIMARY KEY (model_id, node_id, prediction_timestamp, target_timestamp)
        )
    """,
    """
        CREATE INDEX ml_predictions_cache_by_node ON water_infrastructure.ml_predictions_cache (node_id, prediction_timestamp)
    """,
    """
        CREATE TABLE water_infrastructure.model_performance (
            model_id UUID NOT NULL,
            evaluation_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            evaluation_window TEXT NOT NULL,
            predictions_count INTEGER,
            rmse DOUBLE PRECISION,
            mae DOUBLE PRECISION,
            mape DOUBLE PRECISION,
            r2_score DOUBLE PRECISION,
            node_metrics JSONB DEFAULT '{}'::jsonb NOT NULL,
            feature_drift_score DOUBLE PRECISION,
            prediction_drift_score DOUBLE PRECISION,
            drift_detected BOOLEAN,
            PRIMARY KEY (model_id, evaluation_timestamp, evaluation_window)
        )
    """,
    """
        CREATE TABLE water_infrastructure.network_efficiency (
            time_window TEXT NOT NULL,
            window_start TIMESTAMP WITH TIME ZONE NOT NULL,
            window_end TIMESTAMP WITH TIME ZONE NOT NULL,
            computation_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            total_input_volume DOUBLE PRECISION,
            total_output_volume DOUBLE PRECISION,
            total_loss_volume DOUBLE PRECISION,
            efficiency_percentage DOUBLE PRECISION,
            method TEXT,
            coverage DOUBLE PRECISION,
            zone_metrics JSONB DEFAULT '{}'::jsonb NOT NULL,
            active_nodes INTEGER,
            total_nodes INTEGER,
            network_availability DOUBLE PRECISION,
            total_anomalies INTEGER,
            critical_anomalies INTEGER,
            PRIMARY KEY (time_window, window_start)
        )
    """,
    """
        CREATE TABLE water_infrastructure.network_metrics (
            time_range TEXT NOT NULL,
            computation_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
            window_start TIMESTAMP WITH TIME ZONE NOT NULL,
            window_end TIMESTAMP WITH TIME ZONE NOT NULL,
            active_nodes INTEGER NOT NULL,
            total_nodes INTEGER NOT NULL,
            flow_basis TEXT NOT NULL,
            total_flow DOUBLE PRECISION,
            avg_pressure DOUBLE PRECISION,
            total_volume DOUBLE PRECISION,
            efficiency_percentage DOUBLE PRECISION,
            anomaly_count INTEGER,
            PRIMARY KEY (time_range, computation_timestamp)
        )
    """,
    """
        CREATE TABLE water_infrastructure.nodes (
            node_id TEXT NOT NULL,
            node_name TEXT NOT NULL,
            node_type TEXT,
            district_id TEXT,
            role TEXT,
            location_name TEXT,
            latitude DOUBLE PRECISION,
            longitude DOUBLE PRECISION,
            installation_date DATE,
            is_active BOOLEAN DEFAULT true NOT NULL,
            metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (node_id),
            CONSTRAINT nodes_role_is_known CHECK (role IN ('inlet', 'outlet', 'consumption', 'storage', 'monitoring'))
        )
    """,
    """
        CREATE TABLE water_infrastructure.processing_jobs (
            job_id UUID DEFAULT gen_random_uuid() NOT NULL,
            job_type TEXT NOT NULL,
            job_name TEXT NOT NULL,
            status TEXT NOT NULL,
            scheduled_for TIMESTAMP WITH TIME ZONE NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE NOT NULL,
            started_at TIMESTAMP WITH TIME ZONE,
            completed_at TIMESTAMP WITH TIME ZONE,
            duration_seconds DOUBLE PRECISION,
            total_items INTEGER DEFAULT 0 NOT NULL,
            processed_items INTEGER DEFAULT 0 NOT NULL,
            failed_items INTEGER DEFAULT 0 NOT NULL,
            progress_percentage DOUBLE PRECISION DEFAULT 0 NOT NULL,
            data_start_time TIMESTAMP WITH TIME ZONE,
            data_end_time TIMESTAMP WITH TIME ZONE,
            result_summary JSONB DEFAULT '{}'::jsonb NOT NULL,
            error_message TEXT,
            triggered_by TEXT NOT NULL,
            heartbeat_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (job_id),
            CONSTRAINT processing_jobs_one_per_tick UNIQUE (job_type, scheduled_for),
            CONSTRAINT processing_jobs_status_is_known CHECK (status IN ('queued', 'running', 'completed', 'failed'))
        )
    """,
    """
        CREATE INDEX processing_jobs_latest ON water_infrastructure.processing_jobs (created_at)
    """,
    """
        CREATE INDEX processing_jobs_unfinished ON water_infrastructure.processing_jobs (job_type) WHERE status IN ('queued', 'running')
    """,
    """
        CREATE TABLE water_infrastructure.processing_replicas (
            replica TEXT NOT NULL,
            started_at TIMESTAMP WITH TIME ZONE NOT NULL,
            next_run TIMESTAMP WITH TIME ZONE,
            heartbeat_at TIMESTAMP WITH TIME ZONE NOT NULL,
            PRIMARY KEY (replica)
        )
    """,
    """
        CREATE TABLE water_infrastructure.job_chunks (
            job_id UUID NOT NULL,
            chunk_number INTEGER NOT NULL,
            node_ids JSONB NOT NULL,
            read_start TIMESTAMP WITH TIME ZONE NOT NULL,
            read_end TIMESTAMP WITH TIME ZONE NOT NULL,
            expected_readings BIGINT NOT NULL,
            latest_arrivals JSONB NOT NULL,
            resume_from TIMESTAMP WITH TIME ZONE NOT NULL,
            status TEXT NOT NULL,
            replica TEXT,
            result_summary JSONB DEFAULT '{}'::jsonb NOT NULL,
            error_message TEXT,
            completed_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (job_id, chunk_number),
            CONSTRAINT job_chunks_status_is_known CHECK (status IN ('queued', 'completed', 'failed')),
            FOREIGN KEY(job_id) REFERENCES water_infrastructure.processing_jobs (job_id) ON DELETE CASCADE
        )
    """,
)

TABLES = (
    "job_chunks",
    "processing_replicas",
    "processing_jobs",
    "nodes",
    "network_metrics",
    "network_efficiency",
    "model_performance",
    "ml_predictions_cache",
    "ml_models",
    "ingestion_watermarks",
    "data_quality_metrics",
    "computed_metrics",
    "anomalies",
)

HYPERTABLES = (
    "computed_metrics",
    "network_efficiency",
    "ml_predictions_cache",
    "data_quality_metrics",
    "model_performance",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    if timescale.is_present(op.get_bind()):
        timescale.create_hypertables(op.get_bind(), HYPERTABLES)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE water_infrastructure.{table}")
