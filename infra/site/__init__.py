"""Generated pages of the documentation: from the protos, the API's description, and other folders."""
