"""What a RabbitMQ sees, and what an operator does to it, as expressions of Erlang's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager


class RabbitMQOperator:
    """What can be asked of a `RabbitMQServer`, and done to it. It says how, by `evaluate`."""

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression in it, as text."""
        raise NotImplementedError

    @property
    def is_there(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def bindings(self, key: bytes, exchange: str = "rooms", vhost: str = "/") -> int:
        """How many queues are bound to an exchange by a routing key."""
        source = f"{{resource,{_binary(vhost)},exchange,{_binary(exchange)}}}"
        return int(
            self.evaluate(
                f"length([x || B <- rabbit_binding:list_for_source({source}), "
                f"element(3, B) =:= {_bytes(key)}])"
            )
        )

    def queues(self, vhost: str = "/") -> list[str]:
        """The names of the queues."""
        names = self.evaluate(
            "[binary_to_list(element(4, element(2, Q))) || "
            f"Q <- rabbit_amqqueue:list({_binary(vhost)})]"
        )
        return names.strip("[]").replace('"', "").split(",") if names != "[]" else []

    def connections(self, vhost: str = "/") -> int:
        """How many connections there are to a virtual host."""
        return int(self.evaluate(f"length({_connections_to(vhost)})"))

    def close_connections(self, vhost: str = "/", reason: str = "closed by the test") -> int:
        """Have it close them, as `rabbitmqctl close_all_connections` does; returns how many."""
        return int(
            self.evaluate(
                f"begin C = {_connections_to(vhost)}, "
                f'[rabbit_networking:close_connection(P, "{reason}") || P <- C], length(C) end'
            )
        )

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue, as an operator does."""
        resource = f"{{resource,{_binary(vhost)},queue,{_binary(name)}}}"
        self.evaluate(
            f"begin {{ok, Q}} = rabbit_amqqueue:lookup({resource}), "
            "rabbit_amqqueue:delete_immediately([element(5, Q)]) end"
        )

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """For a `with` block: it has less memory than it wants, and takes nothing."""
        alarm = "{{resource_limit, memory, node()}, []}"
        self.evaluate(f"rabbit_alarm:set_alarm({alarm})")
        try:
            yield
        finally:
            if self.is_there:
                self.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """For a `with` block: a virtual host of its own, in which the user guest may do all."""
        name = f"v{secrets.token_hex(6)}"
        self.evaluate(f'rabbit_vhost:add({_binary(name)}, <<"test">>)')
        self.permit(name)
        try:
            yield name
        finally:
            if self.is_there:
                self.evaluate(f'rabbit_vhost:delete({_binary(name)}, <<"test">>)')

    def permit(
        self,
        vhost: str = "/",
        *,
        user: str = "guest",
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> None:
        """Set what a user may do (`rabbitmqctl set_permissions`)."""
        words = (user, vhost, configure, write, read)
        arguments = ", ".join(map(_binary, words))
        self.evaluate(f'rabbit_auth_backend_internal:set_permissions({arguments}, <<"test">>)')

    def add_user(self, name: str) -> None:
        """Have another user, whose password is its name and who may do nothing yet."""
        self.evaluate(
            f'rabbit_auth_backend_internal:add_user({_binary(name)}, {_binary(name)}, <<"test">>)'
        )


def _connections_to(vhost: str) -> str:
    """Those to a virtual host, as an Erlang expression."""
    return (
        "[P || [{pid, P}, {vhost, V}] <- rabbit_networking:connection_info_all([pid, vhost]), "
        f"V =:= {_binary(vhost)}]"
    )


def _binary(text: str) -> str:
    """Text as a binary of Erlang's."""
    return _bytes(text.encode())


def _bytes(data: bytes) -> str:
    return f"<<{','.join(map(str, data))}>>"
