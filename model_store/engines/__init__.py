"""The Protocols of glad.models, one backend per module. Importing this package loads none of them."""
