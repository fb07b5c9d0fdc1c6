"""The plain script: read, validate, fit, evaluate, log and register in MLflow, promote.

``python -m tests.benchmarks.overhead.script ROWS.parquet``, with ``MLFLOW_TRACKING_URI`` set.
"""

from __future__ import annotations

import os
import sys

os.environ["GX_ANALYTICS_ENABLED"] = "false"


def main(path: str) -> None:
    import great_expectations as gx
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.model_selection import train_test_split

    from tests.benchmarks.overhead.dags.tiny.train import fit

    rows = pd.read_parquet(path)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(
        name="tiny",
        expectations=[
            gx.expectations.ExpectTableRowCountToBeBetween(min_value=1000),
            gx.expectations.ExpectColumnValuesToNotBeNull(column="x0"),
            gx.expectations.ExpectColumnValuesToBeBetween(column="x1", min_value=-10, max_value=10),
            gx.expectations.ExpectColumnValuesToBeInSet(column="y", value_set=[0, 1]),
        ],
    )
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    if not batch.validate(suite).success:
        raise SystemExit("the data is not valid")

    training, holdout = train_test_split(rows, test_size=0.2, random_state=0)
    mlflow.set_experiment("script")
    with mlflow.start_run():
        model = fit(training.drop(columns="y"), training["y"])
        scores = model.predict_proba(holdout.drop(columns="y"))[:, 1]
        metrics = {"roc_auc": roc_auc_score(holdout["y"], scores), "log_loss": log_loss(holdout["y"], scores)}
        mlflow.log_metrics(metrics)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(training.drop(columns="y"), scores),
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(),
            pyfunc_predict_fn="predict_proba",
        )
    if metrics["roc_auc"] < 0.6:
        raise SystemExit("the model is not good enough")
    version = mlflow.register_model(logged.model_uri, "script")
    mlflow.MlflowClient().set_registered_model_alias("script", "champion", version.version)


if __name__ == "__main__":
    main(sys.argv[1])
