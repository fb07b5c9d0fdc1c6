"""``python with_evidently.py REFERENCE CURRENT``: Evidently's data drift preset as it is."""

import sys

import pandas as pd
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset

reference, current = (Dataset.from_pandas(pd.read_parquet(path).drop(columns="t")) for path in sys.argv[1:])
result = Report([DataDriftPreset()]).run(current, reference).dict()
counted = next(each["value"] for each in result["metrics"] if "DriftedColumnsCount" in each["metric_name"])
print(f"{counted['count']:.0f} columns drifted")
