"""HTTP: where everything is, and the way to contents for clients that cannot reach S3."""
