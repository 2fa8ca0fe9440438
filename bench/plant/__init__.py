"""A plant in virtual time: the worker's own engine, scheduler and queue, on a device that takes measured seconds."""
