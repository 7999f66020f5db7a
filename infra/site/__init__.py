"""The pages of the documentation that are made of something else: the protos, the API's description, other folders."""
