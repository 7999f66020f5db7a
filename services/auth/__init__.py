"""Identity, grants, devices and the temporary credentials that open one space in S3."""
