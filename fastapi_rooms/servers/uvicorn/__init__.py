"""Direct reads and writes on uvicorn's connections, and a hook for its shutdown."""
