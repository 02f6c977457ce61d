"""Publishing and receiving; see [fastapi_rooms.adapters.rabbitmq][]."""
