"""What is tried before a link is used, and what is said of what is missing."""

from __future__ import annotations

import hiredis

from fastapi_rooms.adapters.redis.history.refusals import code_of, explain
from fastapi_rooms.adapters.redis.history.rights import missing, trial

NO_COMMAND = "NOPERM this user has no permissions to run the 'xadd' command"
NO_KEY = "NOPERM No permissions to access a key"
NO_CHANNEL = "NOPERM No permissions to access a channel"


def test_every_command_has_its_name_in_the_order_of_the_replies() -> None:
    commands, names = trial(b"rooms")
    reader = hiredis.Reader()
    reader.feed(commands)
    assert [reader.gets()[0].decode() for _ in names] == [*names]
    assert reader.gets() is False


def test_what_is_missing_is_named_with_its_cure() -> None:
    names = ["XADD", "HSET", "DEL", "PUBLISH", "EVAL"]
    replies = [hiredis.ReplyError(text) for text in (NO_COMMAND, NO_KEY, NO_KEY, NO_CHANNEL)]
    said = missing("shop", names, [*replies, []])
    assert "XADD, HSET, DEL, PUBLISH (NOPERM" in said
    assert said.endswith("ACL SETUSER <user> +xadd ~shop:* &shop#*")


def test_what_is_refused_for_another_reason_is_not_missing() -> None:
    full = hiredis.ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
    assert missing("rooms", ["XADD", "DEL"], [full, 1]) == ""


def test_a_refusal_is_explained_however_it_is_wrapped() -> None:
    wrapped = "ERR Error running script: @user_script: 12: -OOM command not allowed when used."
    assert code_of(wrapped) == "OOM"
    assert "maxmemory" in explain(wrapped)
    in_a_script = "ERR The user executing the script can't run this command or subcommand"
    assert code_of(in_a_script) == "NOPERM"
    assert explain("ERR of a kind that nobody knows") == "ERR of a kind that nobody knows"
