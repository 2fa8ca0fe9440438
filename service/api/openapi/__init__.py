"""What the OpenAPI document says beyond types: bodies, examples, every answer."""
