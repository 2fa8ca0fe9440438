"""The way of an image into the queue: fields, capacity, storing, enqueueing."""
