"""How services and the gateway use AWS: the session of the process, what errors mean, and items in DynamoDB."""
