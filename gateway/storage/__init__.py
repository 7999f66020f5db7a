"""Objects in S3, read and written without a copy."""
