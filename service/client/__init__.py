"""What talks to a service from outside: the client, the camera, the hot folder."""
