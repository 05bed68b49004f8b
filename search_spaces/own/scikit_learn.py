"""A function of hyperparameters that returns its metrics is a trial of one epoch.

raysweep run search_spaces/own/scikit_learn.yaml
"""

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

x, y = load_breast_cancer(return_X_y=True, as_frame=True)


def train(c: float, gamma: float):
    scores = cross_val_score(make_pipeline(StandardScaler(), SVC(C=c, gamma=gamma)), x, y, cv=5)
    return {"accuracy": scores.mean(), "spread": scores.std()}


def export(point, state, folder):
    """The best model, trained on everything, for `raysweep predict`."""
    import mlflow

    model = make_pipeline(StandardScaler(), SVC(C=point["c"], gamma=point["gamma"]))
    mlflow.sklearn.save_model(model.fit(x, y), folder)
