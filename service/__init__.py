"""The online service: takes images over HTTP, queues them, inspects them, answers. Free of torch outside `service.worker`."""
