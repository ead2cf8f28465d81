"""What several test suites stand on: a real model server and the fixtures that start it."""
