"""Rooms across two real uvicorn workers on one real RabbitMQ: what holds on Redis, holds there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastapi_rooms.testing import RabbitMQServer
from tests.integration.servers import starter, uvicorn
from tests.integration.several_workers.test_arrivals import (
    test_150_fresh_rooms_are_heard_the_moment_join_returns,
    test_a_burst_of_one_endpoint_arrives_in_order,
    test_a_mebibyte_arrives_whole,
    test_a_room_left_and_joined_again_at_once_misses_nothing,
    test_text_json_and_every_byte_arrive_as_they_were_sent,
    test_two_thousand_messages_of_one_sender_arrive_in_order,
)
from tests.integration.several_workers.test_broadcasts import (
    test_a_room_reaches_its_members_on_every_worker_and_nobody_else,
    test_a_socket_in_several_of_the_rooms_hears_it_once,
    test_except_leaves_out_rooms_and_sids_on_every_worker,
    test_one_sid_on_another_worker_is_reached,
    test_what_is_sent_to_everyone_reaches_everyone_on_every_worker,
)
from tests.integration.several_workers.test_names import test_odd_room_names_are_opaque
from tests.integration.workers import Workers

__all__ = [
    "test_150_fresh_rooms_are_heard_the_moment_join_returns",
    "test_a_burst_of_one_endpoint_arrives_in_order",
    "test_a_mebibyte_arrives_whole",
    "test_a_room_left_and_joined_again_at_once_misses_nothing",
    "test_a_room_reaches_its_members_on_every_worker_and_nobody_else",
    "test_a_socket_in_several_of_the_rooms_hears_it_once",
    "test_except_leaves_out_rooms_and_sids_on_every_worker",
    "test_odd_room_names_are_opaque",
    "test_one_sid_on_another_worker_is_reached",
    "test_text_json_and_every_byte_arrive_as_they_were_sent",
    "test_two_thousand_messages_of_one_sender_arrive_in_order",
    "test_what_is_sent_to_everyone_reaches_everyone_on_every_worker",
]


@pytest.fixture(scope="module")
def workers(
    rabbitmq_server: RabbitMQServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    with (
        rabbitmq_server.vhost() as vhost,
        starter(tmp_path_factory.mktemp("servers")) as start,
    ):
        url = rabbitmq_server.url_of(rabbitmq_server.host, rabbitmq_server.port, vhost=vhost)
        server = start(uvicorn("--workers", "2"), ROOMS_URL=url)
        yield Workers.of(server, 2)
        assert server.complaints == []
