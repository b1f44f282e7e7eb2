"""FairPostprocessor: the scores of an estimator that exists already, made fair by shifts learned on calibration rows."""
