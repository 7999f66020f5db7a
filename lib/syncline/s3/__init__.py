"""What both ends know of S3: how a request is signed, by which clock, and what errors mean."""
