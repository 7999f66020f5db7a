"""AWS as services and the gateway use it: the session of the process, the meaning of errors, and items in DynamoDB."""
