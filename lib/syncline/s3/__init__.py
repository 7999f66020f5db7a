"""Knowledge of S3 that both ends share: how a request is signed, by which clock, and what errors mean."""
