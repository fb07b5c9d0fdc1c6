"""The YAML's schema, one module per section."""
