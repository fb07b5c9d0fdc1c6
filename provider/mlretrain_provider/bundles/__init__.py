"""DAG bundles: folders of YAML without any Python file."""
