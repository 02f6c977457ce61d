"""Direct reads and writes on uvicorn's connections, and notice of its shutdown."""
