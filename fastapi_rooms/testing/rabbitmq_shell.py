"""Asks a RabbitMQ, and does what an operator does, through Erlang's own shell."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from contextlib import suppress


class ErlangShell:
    """An Erlang of its own beside the broker, which has expressions evaluated there.

    `rabbitmqctl eval` does the same, and takes half a second each time.
    """

    _PROGRAM = (
        "Node = list_to_atom(lists:nth(1, init:get_plain_arguments())), "
        "Loop = fun(Self) -> case io:get_line('') of eof -> init:stop(); Line -> "
        "{ok, Tokens, _} = erl_scan:string(Line), {ok, Parsed} = erl_parse:parse_exprs(Tokens), "
        "Answer = case rpc:call(Node, erl_eval, exprs, [Parsed, []], 30000) of "
        '{value, Value, _} -> io_lib:format("ok ~1000000p", [Value]); '
        'Error -> io_lib:format("error ~1000000p", [Error]) end, '
        'io:put_chars([re:replace(Answer, "\\\\s*\\n\\\\s*", "", [global]), $\\n]), Self(Self) '
        "end end, Loop(Loop)."
    )

    def __init__(self, node: str, environment: dict[str, str], cookie: str) -> None:
        erl = shutil.which("erl")
        assert erl is not None, "RabbitMQ runs, so Erlang is here"
        name = f"ask{secrets.token_hex(4)}@localhost"
        arguments = ["-noshell", "-hidden", "-sname", name, "-setcookie", cookie]
        arguments += ["+S", "1:1", "+sbwt", "none", "-kernel", "inet_dist_use_interface"]
        arguments += ["{127,0,0,1}", "-eval", self._PROGRAM, "-extra", node]
        self._process = subprocess.Popen(  # noqa: S603 -- Erlang's own
            [erl, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def evaluate(self, expression: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{expression}.\n")
        stdin.flush()
        kind, _, value = stdout.readline().rstrip("\n").partition(" ")
        if kind != "ok":
            raise RuntimeError(f"RabbitMQ could not evaluate {expression}: {value}")
        return value

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
