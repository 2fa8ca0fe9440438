"""The commands of the service, one file a group: serve, camera, queue, key, outbox, backup."""
