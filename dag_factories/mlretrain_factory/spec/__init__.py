"""What may stand in a YAML file: one module per section, every default, every description."""
