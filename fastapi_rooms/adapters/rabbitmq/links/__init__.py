"""One connection to RabbitMQ; see [fastapi_rooms.adapters.rabbitmq][]."""
