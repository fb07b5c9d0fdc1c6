"""Datasets: immutable, fingerprinted snapshots of Parquet and CSV files, and how they are read."""
