"""Every table of the schema water_infrastructure, as SQLAlchemy sees it; the migrations create the same, tested."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "water_infrastructure"
metadata = MetaData(schema=SCHEMA)


def _instant(name: str, *, nullable: bool = True, primary_key: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable and not primary_key, primary_key=primary_key)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


def _json(name: str) -> Column[object]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


nodes = Table(
    "nodes",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("node_name", Text, nullable=False),
    Column("node_type", Text),
    Column("district_id", Text),
    Column("role", Text),
    Column("location_name", Text),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("installation_date", Date),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    # Since when nothing is concluded of it, and whether somebody declared that or it sent no readings.
    _instant("out_of_service_since"),
    Column("out_of_service_reason", Text),
    _json("metadata"),
    _now("created_at"),
    _now("updated_at"),
    CheckConstraint(
        "out_of_service_since IS NULL AND out_of_service_reason IS NULL "
        "OR out_of_service_since IS NOT NULL AND out_of_service_reason IN ('by hand', 'silent')",
        name="nodes_out_of_service_for_a_reason",
    ),
    CheckConstraint("role IN ('inlet', 'outlet', 'consumption', 'storage', 'monitoring')", name="nodes_role_is_known"),
)

# What the utility knows of a district metered area, for the indicators of loss; null where it knows nothing.
districts = Table(
    "districts",
    metadata,
    Column("district_id", Text, primary_key=True),
    Column("district_name", Text),
    Column("mains_km", Double),
    Column("connections", Integer),
    Column("private_pipe_km", Double),
    Column("mean_pressure_metres", Double),
    # Legitimate use at night, L per connection and hour, and the N1 of leakage against pressure.
    Column("night_use_litres", Double),
    Column("leakage_exponent", Double),
    _now("updated_at"),
)

computed_metrics = Table(
    "computed_metrics",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("time_window", Text, primary_key=True),
    _instant("window_start", primary_key=True),
    _instant("window_end", nullable=False),
    *(Column(f"{statistic}_flow_rate", Double) for statistic in ("avg", "min", "max")),
    Column("flow_variance", Double),
    Column("total_volume", Double),
    *(Column(f"{statistic}_pressure", Double) for statistic in ("avg", "min", "max")),
    Column("pressure_variance", Double),
    *(Column(f"{statistic}_temperature", Double) for statistic in ("avg", "min", "max")),
    Column("temperature_variance", Double),
    *(
        Column(f"max_{stem}_{kind}", Double)
        for stem in ("flow", "pressure", "temperature")
        for kind in ("change", "spike")
    ),
    *(
        Column(f"{counted}_count", Integer, nullable=False)
        for counted in ("reading", "flow", "pressure", "temperature")
    ),
    Column("cadence_seconds", Double),
    Column("data_completeness", Double),
    # The share of the window that readings of each measurement vouch for, and how much of the volume is spread by time.
    *(Column(f"{stem}_coverage", Double) for stem in ("flow", "pressure", "temperature")),
    Column("estimated_volume", Double),
    # Events that overlap the window; detection follows ingestion in the same job.
    Column("anomaly_count", Integer, server_default=text("0")),
    Column("quality_score", Double),
    _instant("computed_at", nullable=False),
    Column("computation_version", Text, nullable=False),
    CheckConstraint("time_window IN ('5min', '1hour', '1day')", name="computed_metrics_time_window_is_known"),
    # The whole network over a span of time; the primary key serves single nodes.
    Index("computed_metrics_by_time", "time_window", "window_start"),
    # The few windows under events, which are counted again where events are withdrawn.
    Index(
        "computed_metrics_under_events",
        "node_id",
        "window_start",
        postgresql_where=text("anomaly_count IS DISTINCT FROM 0"),
    ),
)

network_metrics = Table(
    "network_metrics",
    metadata,
    Column("time_range", Text, primary_key=True),
    _instant("computation_timestamp", primary_key=True),
    _instant("window_start", nullable=False),
    _instant("window_end", nullable=False),
    Column("active_nodes", Integer, nullable=False),
    Column("total_nodes", Integer, nullable=False),
    Column("flow_basis", Text, nullable=False),
    Column("total_flow", Double),
    Column("avg_pressure", Double),
    Column("total_volume", Double),
    Column("efficiency_percentage", Double),
    Column("anomaly_count", Integer),
    Column("reason", Text),
)

network_efficiency = Table(
    "network_efficiency",
    metadata,
    Column("time_window", Text, primary_key=True),
    _instant("window_start", primary_key=True),
    _instant("window_end", nullable=False),
    _instant("computation_timestamp", nullable=False),
    *(Column(f"total_{flow}_volume", Double) for flow in ("input", "output", "loss")),
    Column("efficiency_percentage", Double),
    Column("method", Text),
    Column("coverage", Double),
    _json("zone_metrics"),
    Column("active_nodes", Integer),
    Column("total_nodes", Integer),
    Column("network_availability", Double),
    Column("total_anomalies", Integer),
    Column("critical_anomalies", Integer),
    Column("reason", Text),
    # Half of 95 % intervals, m³, and how much of the water that was metered was estimated.
    *(Column(f"{flow}_margin", Double) for flow in ("input", "output", "loss")),
    Column("estimated_share", Double),
    # Of 30 and 365 days: what losses are compared by.
    Column("indicators", JSONB(none_as_null=True)),
)

# What `network_efficiency` adds up, and holds as `zone_metrics`: the balance of one district.
district_balances = Table(
    "district_balances",
    metadata,
    Column("district_id", Text, primary_key=True),
    Column("time_window", Text, primary_key=True),
    _instant("window_start", primary_key=True),
    _instant("window_end", nullable=False),
    Column("balance", JSONB, nullable=False),
    Column("active_nodes", Integer),
    Column("total_nodes", Integer),
    # The whole network over a span of time; the primary key serves single districts.
    Index("district_balances_by_time", "time_window", "window_start"),
)

anomalies = Table(
    "anomalies",
    metadata,
    Column("anomaly_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    _instant("timestamp", nullable=False),
    _instant("end"),
    Column("node_id", Text, nullable=False),
    Column("anomaly_type", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("measurement_type", Text),
    Column("actual_value", Double),
    Column("expected_value", Double),
    Column("deviation_percentage", Double),
    Column("detection_method", Text, nullable=False),
    Column("is_confirmed", Boolean),
    _instant("resolved_at"),
    _json("metadata"),
    _now("created_at"),
    # When it was first seen; `timestamp` is when it began.
    _now("detected_at"),
    Column("district_id", Text),
    # Events of one district that belong together.
    Column("incident_id", Uuid),
    _instant("acknowledged_at"),
    Column("acknowledged_by", Text),
    Column("resolved_by", Text),
    Column("note", Text),
    CheckConstraint("severity IN ('info', 'warning', 'critical')", name="anomalies_severity_is_known"),
    Index("anomalies_by_time", "timestamp", "anomaly_id"),
    Index("anomalies_by_node", "node_id", "timestamp"),
    Index("anomalies_by_resolution", "resolved_at"),
    Index("anomalies_open", "timestamp", postgresql_where=text("resolved_at IS NULL")),
)

# The calendar of what the utility does on its network.
works = Table(
    "works",
    metadata,
    Column("work_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("kind", Text, nullable=False),
    Column("node_id", Text),
    Column("district_id", Text),
    _instant("begin", nullable=False),
    # Null: an instant.
    _instant("end"),
    Column("note", Text),
    _now("created_at"),
    Column("created_by", Text, nullable=False),
    # One that was deleted stays until nothing is attached to it any more, and somebody may still want to know who did.
    _instant("deleted_at"),
    Column("deleted_by", Text),
    # When it was last changed, and the same instant once it is attached to events as it is.
    _now("changed_at"),
    _instant("attached_at"),
    CheckConstraint("kind IN ('works', 'meter_exchange', 'closure', 'network_change')", name="works_kind_is_known"),
    CheckConstraint("node_id IS NOT NULL OR district_id IS NOT NULL", name="works_are_somewhere"),
    CheckConstraint('"end" > begin', name="works_end_after_they_begin"),
    CheckConstraint("\"end\" IS NOT NULL OR kind NOT IN ('works', 'closure')", name="works_have_an_end"),
    Index("works_by_begin", "begin", "work_id"),
    Index("works_by_node", "node_id", "begin"),
    Index("works_by_district", "district_id", "begin"),
    Index("works_to_attach", "work_id", postgresql_where=text("attached_at IS DISTINCT FROM changed_at")),
)

ml_models = Table(
    "ml_models",
    metadata,
    Column("model_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("model_name", Text, nullable=False),
    Column("model_type", Text, nullable=False),
    Column("version", Text, nullable=False),
    _now("created_at"),
    _instant("training_started_at"),
    _instant("training_completed_at"),
    Column("training_duration_seconds", Double),
    Column("status", Text, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=text("false")),
    _instant("activated_at"),
    _instant("retired_at"),
    _json("metrics"),
    _json("validation_metrics"),
    _json("parameters"),
    _instant("training_data_start"),
    _instant("training_data_end"),
    Column("training_samples", BigInteger),
    Column("model_size_bytes", BigInteger),
    Column("model_hash", Text),
    Column("artefact", LargeBinary),
    # The pool of nodes it was trained for.
    Column("scope", Text, nullable=False, server_default=text("'all'")),
    Column("library_versions", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _instant("shadow_since"),
    # The model it took the place of, which stays loaded for a while.
    Column("fallback_id", Uuid),
    CheckConstraint(
        "model_type IN ('flow_prediction', 'anomaly_detection', 'efficiency_optimization')",
        name="ml_models_type_is_known",
    ),
    CheckConstraint(
        "status IN ('created', 'training', 'validating', 'shadow', 'active', 'retired', 'failed')",
        name="ml_models_status_is_known",
    ),
    Index("ml_models_active", "model_type", "is_active"),
    Index("ml_models_one_active", "model_type", "scope", unique=True, postgresql_where=text("is_active")),
    Index("ml_models_one_shadow", "model_type", "scope", unique=True, postgresql_where=text("status = 'shadow'")),
)

model_decisions = Table(
    "model_decisions",
    metadata,
    Column("decision_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model_id", Uuid, ForeignKey("water_infrastructure.ml_models.model_id", ondelete="CASCADE"), nullable=False),
    _instant("decided_at", nullable=False),
    Column("decision", Text, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("model_decisions_by_model", "model_id", "decided_at"),
)

# Requests about models through the API, before and after the processing service has decided on them.
model_requests = Table(
    "model_requests",
    metadata,
    Column("request_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("action", Text, nullable=False),
    Column("model_type", Text, nullable=False),
    # Of a training the one pool to train, null: all; else the model's.
    Column("scope", Text),
    Column("model_id", Uuid),
    _instant("requested_at", nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("note", Text),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    # The training that was started for it.
    Column("job_id", Uuid),
    _instant("decided_at"),
    Column("outcome", Text),
    CheckConstraint("action IN ('train', 'promote', 'roll_back')", name="model_requests_action_is_known"),
    CheckConstraint(
        "status IN ('queued', 'running', 'done', 'refused', 'failed')", name="model_requests_status_is_known"
    ),
    CheckConstraint("action = 'train' OR model_id IS NOT NULL", name="model_requests_name_a_model"),
    Index("model_requests_by_time", "requested_at", "request_id"),
    Index("model_requests_open", "requested_at", postgresql_where=text("status IN ('queued', 'running')")),
)

model_performance = Table(
    "model_performance",
    metadata,
    Column("model_id", Uuid, primary_key=True),
    _instant("evaluation_timestamp", primary_key=True),
    Column("evaluation_window", Text, primary_key=True),
    Column("predictions_count", Integer),
    *(Column(name, Double) for name in ("rmse", "mae", "mape", "r2_score")),
    _json("node_metrics"),
    Column("feature_drift_score", Double),
    Column("prediction_drift_score", Double),
    Column("drift_detected", Boolean),
    Column("drift_reason", Text),
)

ml_predictions_cache = Table(
    "ml_predictions_cache",
    metadata,
    Column("model_id", Uuid, primary_key=True),
    Column("node_id", Text, primary_key=True),
    _instant("prediction_timestamp", primary_key=True),
    _instant("target_timestamp", primary_key=True),
    Column("prediction_horizon_hours", Integer, nullable=False),
    Column("predicted_flow_rate", Double),
    Column("flow_rate_lower", Double),
    Column("flow_rate_upper", Double),
    Column("confidence_score", Double),
    _json("features_used"),
    Index("ml_predictions_cache_by_node", "node_id", "prediction_timestamp"),
)

# Alarms of districts' multivariate detectors, whether or not they became events.
detector_alarms = Table(
    "detector_alarms",
    metadata,
    Column(
        "model_id", Uuid, ForeignKey("water_infrastructure.ml_models.model_id", ondelete="CASCADE"), primary_key=True
    ),
    _instant("timestamp", primary_key=True),
    _instant("detected_at", nullable=False),
    _instant("end"),
    _json("metadata"),
)

# The latest recommendation for each district's pressure set-points, or why there is none.
recommendations = Table(
    "recommendations",
    metadata,
    Column("district_id", Text, primary_key=True),
    _instant("computed_at", nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # The leakage-pressure relation it rests on.
    Column("model_id", Uuid),
    Column("inlet_node_id", Text),
    Column("critical_node_id", Text),
    Column("minimum_pressure", Double),
    Column("schedule", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("leakage_volume", Double),
    Column("saving_volume", Double),
    *(Column(f"saving_volume_{bound}", Double) for bound in ("lower", "upper")),
    CheckConstraint("outcome IN ('recommended', 'refused')", name="recommendations_outcome_is_known"),
)

data_quality_metrics = Table(
    "data_quality_metrics",
    metadata,
    Column("node_id", Text, primary_key=True),
    _instant("check_timestamp", primary_key=True),
    Column("time_window", Text, primary_key=True),
    *(Column(f"{score}_score", Double) for score in ("completeness", "validity", "consistency", "overall_quality")),
    *(Column(name, Integer) for name in ("missing_data_points", "invalid_values", "outliers_detected")),
    Column("quality_issues", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
)

processing_jobs = Table(
    "processing_jobs",
    metadata,
    Column("job_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("job_type", Text, nullable=False),
    Column("job_name", Text, nullable=False),
    Column("status", Text, nullable=False),
    _instant("scheduled_for", nullable=False),
    _instant("created_at", nullable=False),
    _instant("started_at"),
    _instant("completed_at"),
    Column("duration_seconds", Double),
    Column("total_items", Integer, nullable=False, server_default=text("0")),
    Column("processed_items", Integer, nullable=False, server_default=text("0")),
    Column("failed_items", Integer, nullable=False, server_default=text("0")),
    Column("progress_percentage", Double, nullable=False, server_default=text("0")),
    _instant("data_start_time"),
    _instant("data_end_time"),
    _json("result_summary"),
    Column("error_message", Text),
    Column("triggered_by", Text, nullable=False),
    # Liveness is physical: this one column is the database's own clock, not the injected one.
    _instant("heartbeat_at"),
    UniqueConstraint("job_type", "scheduled_for", name="processing_jobs_one_per_tick"),
    CheckConstraint("status IN ('queued', 'running', 'completed', 'failed')", name="processing_jobs_status_is_known"),
    Index("processing_jobs_latest", "created_at"),
    Index("processing_jobs_by_type", "job_type", "created_at"),
    Index("processing_jobs_unfinished", "job_type", postgresql_where=text("status IN ('queued', 'running')")),
)

job_chunks = Table(
    "job_chunks",
    metadata,
    Column("job_id", Uuid, ForeignKey(processing_jobs.c.job_id, ondelete="CASCADE"), primary_key=True),
    Column("chunk_number", Integer, primary_key=True),
    Column("node_ids", JSONB, nullable=False),
    _instant("read_start", nullable=False),
    _instant("read_end", nullable=False),
    Column("expected_readings", BigInteger, nullable=False),
    # node_id -> its watermark's arrivals when the chunk is done: [instant, recent rows].
    Column("latest_arrivals", JSONB, nullable=False),
    # Which districts the nodes' rows are stored under ("": none); null where the warehouse knows none.
    Column("districts", JSONB(none_as_null=True)),
    # The pool that the nodes are, where a model is trained of them.
    Column("scope", Text),
    # Where it is not to be read but concluded: which conclusions, of what hours (see `conclusions.share`).
    Column("conclusions", JSONB(none_as_null=True)),
    # How often it was begun since it last got on.
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Where to go on: everything before it is committed.
    _instant("resume_from", nullable=False),
    Column("status", Text, nullable=False),
    Column("replica", Text),
    _json("result_summary"),
    Column("error_message", Text),
    _instant("completed_at"),
    CheckConstraint("status IN ('queued', 'completed', 'failed')", name="job_chunks_status_is_known"),
)

# Readings and values set aside, by quarter of an hour: every local day begins with one.
rejected_readings = Table(
    "rejected_readings",
    metadata,
    Column("node_id", Text, primary_key=True),
    _instant("quarter_start", primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("readings", Integer, nullable=False),
    # Of the values set aside, in the product's unit; a placeholder as it came. Null where whole rows were.
    Column("lowest", Double),
    Column("highest", Double),
)

# What each measurement of a node is, learned from the weeks before `valid_from`, beside what people state of it.
node_channels = Table(
    "node_channels",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("measurement", Text, primary_key=True),
    # Null: not learned yet.
    _instant("valid_from"),
    _instant("learned_at"),
    # Hours looked at; where they are too few, nothing else is known.
    Column("hours", Integer, nullable=False, server_default=text("0")),
    # Whether it enters averages, limits and quality.
    Column("is_counted", Boolean, nullable=False, server_default=text("true")),
    Column("is_connected", Boolean),
    Column("copy_of", Text),
    Column("unit_questioned", Boolean, nullable=False, server_default=text("false")),
    Column("likely_unit", Text),
    Column("resolution", Double),
    Column("reporting", Text),
    Column("placeholders", JSONB, nullable=False, server_default=text("'[]'")),
    Column("evidence", JSONB, nullable=False, server_default=text("'[]'")),
    # How a meter counts was found when readings were taken in, and holds from then on: of the flow whether it turns
    # round, of the volume whether it is a register's reading.
    _instant("counting_found_at"),
    Column("is_two_way", Boolean),
    Column("is_counter", Boolean),
    # The few that are left out.
    Index("node_channels_not_counted", "node_id", "measurement", postgresql_where=text("NOT is_counted")),
)

# What each node and its channels are taken for and why, and what is lacking for conclusions that need it.
node_survey = Table(
    "node_survey",
    metadata,
    Column("node_id", Text, primary_key=True),
    _instant("surveyed_at", nullable=False),
    # When what people state of the node had last changed: another instant calls for another survey.
    _instant("described_at", nullable=False),
    # {"value", "why"}; null: the district is stated, or there is no evidence for one.
    Column("district_believed", JSONB(none_as_null=True)),
    Column("role_believed", Text),
    Column("why", JSONB, nullable=False, server_default=text("'[]'")),
    Column("channels", JSONB, nullable=False, server_default=text("'[]'")),
    _instant("first_reading"),
    _instant("last_reading"),
    Column("cadence_seconds", Double),
    # Local days with readings, of those that are stored.
    Column("days", Integer, nullable=False),
    _json("lacking"),
)

district_survey = Table(
    "district_survey",
    metadata,
    Column("district_id", Text, primary_key=True),
    _instant("surveyed_at", nullable=False),
    # Likewise of the district; null where nobody has described it.
    _instant("described_at"),
    Column("nodes", Integer, nullable=False),
    _json("lacking"),
    _json("has"),
)

# What is normal for a node, learned from the weeks before `valid_from`.
node_habits = Table(
    "node_habits",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("measurement", Text, primary_key=True),
    _instant("valid_from", primary_key=True),
    Column("history_days", Double, nullable=False),
    _json("habits"),
)

# What detection expected of each hour that it has judged, in the measurement's unit, with the usual swing around it.
expected_values = Table(
    "expected_values",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("measurement", Text, primary_key=True),
    _instant("window_start", primary_key=True),
    Column("expected", Double, nullable=False),
    Column("lower", Double, nullable=False),
    Column("upper", Double, nullable=False),
)

# What is normal for the nodes that stand for a large network, to which its districts are compared in one week.
sampled_habits = Table(
    "sampled_habits",
    metadata,
    _instant("valid_from", primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("measurement", Text, primary_key=True),
    _instant("learned_at", nullable=False),
    Column("district_id", Text),
    Column("role", Text),
    Column("habits", JSONB, nullable=False),
)

# What somebody should know: once per rule and subject while it lasts.
alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    # Pending: seen, but not for as long as its rule demands.
    Column("state", Text, nullable=False),
    Column("summary", Text, nullable=False),
    _json("details"),
    _instant("since", nullable=False),
    _instant("fired_at"),
    _instant("notified_at"),
    _instant("resolved_at"),
    CheckConstraint("state IN ('pending', 'firing', 'resolved')", name="alerts_state_is_known"),
    CheckConstraint("severity IN ('info', 'warning', 'critical')", name="alerts_severity_is_known"),
    Index("alerts_one_at_a_time", "rule", "subject", unique=True, postgresql_where=text("state <> 'resolved'")),
    Index("alerts_by_time", "since", "alert_id"),
)

# Messages about alerts, one per channel, stored until they are delivered or given up; real time, whatever clock is
# injected.
alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("alert_id", Uuid, ForeignKey(alerts.c.alert_id, ondelete="CASCADE"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("message", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _now("next_attempt_at"),
    _instant("delivered_at"),
    _instant("given_up_at"),
    Column("last_error", Text),
    Index(
        "alert_deliveries_waiting",
        "next_attempt_at",
        postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
    ),
    Index("alert_deliveries_by_alert", "alert_id"),
)

ingestion_watermarks = Table(
    "ingestion_watermarks",
    metadata,
    Column("node_id", Text, primary_key=True),
    # Null while no reading of the node was valid.
    _instant("last_reading"),
    _instant("last_arrival"),
    # Of the rows taken in, how many had arrived shortly before that; null where nobody has counted.
    Column("recent_rows", BigInteger),
    _instant("updated_at", nullable=False),
    # Of the rows taken in, valid or not.
    _instant("last_row", nullable=False),
    # The earliest of the last readings of each measurement: one that reports daily is behind one that does not.
    _instant("last_of_each"),
    Index("ingestion_watermarks_latest", "last_reading"),
)

processing_replicas = Table(
    "processing_replicas",
    metadata,
    Column("replica", Text, primary_key=True),
    _instant("started_at", nullable=False),
    _instant("next_run"),
    _instant("heartbeat_at", nullable=False),
)

# Grows with every change the API may show: cached answers carry the number they were made under.
data_generation = Table(
    "data_generation",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("generation", BigInteger, nullable=False),
    CheckConstraint("only_row", name="data_generation_has_one_row"),
)

# Only the digest of a key is stored; the key itself is shown once, when it is made.
api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("key_name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scope", Text, nullable=False),
    _instant("created_at", nullable=False),
    Column("created_by", Text, nullable=False),
    _instant("expires_at"),
    _instant("revoked_at"),
    # Who holds it, where it was made for one person.
    Column("person", Text),
    CheckConstraint("scope IN ('read', 'write', 'admin')", name="api_keys_scope_is_known"),
)

# Who used which key, from where, hour by hour; real time, whatever clock is injected.
api_key_usage = Table(
    "api_key_usage",
    metadata,
    Column("key_id", Text, primary_key=True),
    _instant("hour", primary_key=True),
    Column("address", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False, server_default=text("0")),
    Column("refused", BigInteger, nullable=False, server_default=text("0")),
    _instant("last_used_at", nullable=False),
    Index("api_key_usage_by_hour", "hour"),
)

# Table -> its time column. Those that only ever grow become hypertables where TimescaleDB is present.
HYPERTABLES = {
    "computed_metrics": "window_start",
    "network_efficiency": "window_start",
    "ml_predictions_cache": "prediction_timestamp",
    "data_quality_metrics": "check_timestamp",
    "model_performance": "evaluation_timestamp",
    "expected_values": "window_start",
}
