"""Estimators of scikit-learn's kind that train a network with the layer inside: FairClassifier, FairRegressor."""
