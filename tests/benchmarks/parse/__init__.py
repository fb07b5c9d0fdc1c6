"""What it costs to parse pipelines, beside hand-written DAGs of the same tasks."""
