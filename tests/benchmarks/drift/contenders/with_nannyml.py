"""``python with_nannyml.py REFERENCE CURRENT``: NannyML's univariate drift with its default methods.

Its default splits reference and window into ten chunks each.
"""

import sys

import nannyml
import pandas as pd

reference, current = (pd.read_parquet(path).drop(columns="t") for path in sys.argv[1:])
calculator = nannyml.UnivariateDriftCalculator(column_names=list(reference.columns))
found = calculator.fit(reference).calculate(current).filter(period="analysis").to_df()
alerts = found.xs("alert", axis=1, level=-1)
print(f"{int(alerts.any().sum())} of {alerts.shape[1]} columns with an alert in one of {len(found)} chunks")
