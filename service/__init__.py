"""The online service: takes images over HTTP, queues them, inspects them. Free of torch outside `service.worker`."""
