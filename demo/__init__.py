"""The demo: sample images through the real service, as a line camera would send them, and a page of what came back.

It drives the project from outside, through the `glad` command and HTTP, as any user does; it imports none of it.
"""
