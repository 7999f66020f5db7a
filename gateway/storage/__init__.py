"""Objects in S3, read and written without copying their bytes."""
