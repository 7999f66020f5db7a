"""What has to be done so that folder and space agree: a three-way merge, and steps in an order. Pure."""
